import {
  checkArguments,
  listOf,
  noJournal,
  numeric,
  objectWith,
  RmError,
  record,
} from '../../engine/index.js';
import { aModel, type Model } from '../../model/index.js';
import { roomFor } from '../activations/hiddenStates.js';
import { batchedTokens, type CalibrationBatch } from '../calibration/calibrationBatch.js';
import { groupTokens } from './groupTokens.js';
import { LayerTile, tiles } from './layerTile.js';
import { offloadedMap } from './offloadedMap.js';
import { projectionMatrix } from './projection.js';
import type { WindowMap, WindowMapOptions, WindowMeasure } from './windowMeasures.js';

export type { WindowMap, WindowMapOptions, WindowMeasure } from './windowMeasures.js';

/** Default number of random projections that replace the columns of the targets. */
export const PROJECTIONS = 128;

/**
 * Measures all windows up to a length in one pass over the tokens: their distance, and the residual that the best linear
 * map leaves.
 *
 * Each column of L_j - L_i is its own regression on M_i, so a random projection onto a few columns can replace them all:
 * with random signs P the mean of |P e|² is |e|². One factorisation of G_i serves all j. Maps are fitted on half 0 and
 * judged on half 1, each with the ridge that does best there. A token counts 1/|L| with |L| its largest norm in any
 * layer: the same for all windows, so massive activations count no more than others before, at and after the layer that
 * makes them.
 *
 * Cost besides the forward pass, per token and window: 2 hidden (hidden / n + projections) multiply-adds; per window and
 * ridge twice hidden² projections.
 *
 * @throws RmError NOT_FINITE naming the first window whose hidden states hold NaN or infinity; DATA_INVALID where one half
 *   of the batches has no tokens.
 */
export async function windowMap(
  model: Model,
  batches: readonly CalibrationBatch[],
  options: WindowMapOptions = {},
): Promise<WindowMap> {
  checkArguments(
    'windowMap',
    { model, batches, options },
    {
      model: aModel,
      batches: listOf(record({ sequences: listOf(listOf(numeric)), weight: numeric })),
      options: objectWith('an object of settings'),
    },
  );
  const { device, arch } = model;
  using _section = device.section('window map');
  for (const half of [0, 1]) {
    if (batches.some(batch => batch.half === half)) continue;
    throw new RmError(
      'DATA_INVALID',
      'all calibration tokens come from one document, so nothing is held out',
      'Give more documents, or shorter sequences.',
    );
  }
  const longest = Math.min(options.longest ?? arch.layers - 1, arch.layers - 1);
  using projection = projectionMatrix(device, arch.hidden, options.projections ?? PROJECTIONS);
  const room = options.room ?? roomFor(device, device.memory.liveBytes);
  const context = { model, batches, options, longest, projection };
  const { journal = noJournal } = options;
  const measures: WindowMeasure[] = [];
  if (model.isOffloaded) measures.push(...(await offloadedMap(context)));
  else {
    for (const [first, end] of tiles(arch.layers - 1, longest, projection.rowCount, arch.hidden, room)) {
      // A run that resumes with other memory must not go on with sums over other groups.
      const tokens = groupTokens(device, arch);
      const ofTile = await journal.step(`layers ${first} to ${end - 1} by ${tokens} tokens`, async () => {
        // One pass suffices to fill `states`.
        using tile = new LayerTile(context, first, end, first === 0 ? options.states : undefined);
        using _tracking = await journal.track('sums', tile);
        await tile.sum();
        return await tile.measures();
      });
      measures.push(...ofTile);
    }
  }
  measures.sort((a, b) => a.count - b.count || a.layer - b.layer);
  return { layers: arch.layers, tokens: batchedTokens(batches), windows: measures };
}
