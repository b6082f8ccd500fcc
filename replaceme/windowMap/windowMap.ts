import { noJournal, RmError } from '../../engine/index.js';
import type { Model } from '../../model/index.js';
import { roomFor } from '../activations/hiddenStates.js';
import { batchedTokens, type CalibrationBatch } from '../calibration/calibrationBatch.js';
import { Tile, tiles } from './layerTile.js';
import { offloadedMap } from './offloadedMap.js';
import { projectionMatrix } from './projection.js';
import type { WindowMap, WindowMapOptions, WindowMeasure } from './windowMeasures.js';

export type { WindowMap, WindowMapOptions, WindowMeasure } from './windowMeasures.js';

/** Random projections that stand for all columns of the targets, unless told. */
export const PROJECTIONS = 128;

/**
 * Distance and attained residual of all windows up to a length, in one walk over the tokens.
 *
 * Every column of L_j - L_i is a regression of its own on M_i, so a random projection of the columns onto a few
 * stands for all: with signs P the mean of |P e|² is |e|². One factor of G_i serves all j. Maps are fitted on half 0
 * and judged on half 1, each with the ridge that does best there. A token counts 1/|L| with |L| its largest norm in
 * any layer: the same for all windows, and massive activations count no more than others before, at and after the
 * layer that makes them.
 *
 * Cost beside the forward pass, per token and window: 2 hidden (hidden / n + projections) multiply-adds; per window
 * and ridge twice hidden² projections.
 *
 * @throws RmError NOT_FINITE naming the first window whose hidden states hold NaN or infinity; DATA_INVALID where one half
 *   of the batches has no tokens.
 */
export async function windowMap(
  model: Model,
  batches: readonly CalibrationBatch[],
  options: WindowMapOptions = {},
): Promise<WindowMap> {
  const { device, arch } = model;
  using _section = device.section('window map');
  for (const half of [0, 1]) {
    if (batches.some(batch => batch.half === half)) continue;
    throw new RmError(
      'DATA_INVALID',
      'all calibration tokens are of one document: nothing is held out',
      'Give more documents, or shorter sequences.',
    );
  }
  const longest = Math.min(options.longest ?? arch.layers - 1, arch.layers - 1);
  using projection = projectionMatrix(device, arch.hidden, options.projections ?? PROJECTIONS);
  const room = options.room ?? roomFor(device.memory.limit, device.memory.liveBytes);
  const context = { model, batches, options, longest, projection };
  const { journal = noJournal } = options;
  const measures: WindowMeasure[] = [];
  const spare = { states: options.states };
  if (model.isOffloaded) measures.push(...(await offloadedMap(context)));
  else await walkTiles();
  measures.sort((a, b) => a.count - b.count || a.layer - b.layer);
  return { layers: arch.layers, tokens: batchedTokens(batches), windows: measures };

  async function walkTiles(): Promise<void> {
    for (const [first, end] of tiles(arch.layers - 1, longest, projection.rowCount, arch.hidden, room)) {
      const found = await journal.step(`layers ${first} to ${end - 1}`, async () => {
        using tile = new Tile(context, first, end, spare.states);
        using _held = await journal.track('sums', tile);
        await tile.walk();
        return await tile.measures();
      });
      measures.push(...found);
      delete spare.states;
    }
  }
}
