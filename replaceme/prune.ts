import { Device } from '../engine/index.js';
import { groupSequences, totalTokens } from '../model/batch.js';
import { loadChatTemplate } from '../model/chat.js';
import { withOutputFolder } from '../model/checkpoint/outputFolder.js';
import { openSafetensors } from '../model/checkpoint/safetensors.js';
import { logits } from '../model/logits.js';
import { Model } from '../model/model.js';
import { loadTokenizer } from '../model/tokenizer.js';
import { type Calibration, readCalibration } from './calibration.js';
import { type WalkOptions, windowDistances } from './distance.js';
import { HiddenStates } from './hiddenStates.js';
import { writeDocumentation } from './modelCard.js';
import type { PruneReport, WindowChoice } from './report.js';
import {
  calibrationSizes,
  checkPruneRequest,
  DISTANCE_TOKENS,
  outputOptions,
  type PruneOptions,
  type PruneRequest,
} from './request.js';
import { StoredFit } from './storedFit.js';
import { verifyWritten } from './verify.js';
import { describeWindow, keptLayers } from './window.js';
import { modelFingerprint, writePrunedModel } from './writeModel.js';

/**
 * Prunes the model in folder `from` into the new folder `to`: measure, choose the window, fit, fold, write, reload,
 * compare, rename. `to` appears only when all of it has succeeded.
 *
 * @throws RmError; see engine/errors.ts.
 */
export async function prune(from: string, to: string, options: PruneOptions = {}): Promise<PruneReport> {
  const started = performance.now();
  const request = await checkPruneRequest(from, to, options);
  const { method, arch, alpha } = request;

  const device = options.device ?? (await Device.open(options));
  try {
    const recipe = { alpha, ...calibrationSizes(options, device, arch) };
    const tokenizer = await loadTokenizer(from);
    const needed = method.needsCalibration || request.window === undefined;
    const calibration: Calibration = needed
      ? await readCalibration(tokenizer, await loadChatTemplate(from, tokenizer), {
          ...(options.calibration && { files: options.calibration }),
          ...(options.textField !== undefined && { textField: options.textField }),
          tokens: recipe.tokens,
          sequenceLength: recipe.sequenceLength,
        })
      : { sequences: [], tokens: 0, files: [] };
    using model = await Model.load(device, from, walk(options));
    const batches = groupSequences(calibration.sequences, recipe.batchTokens);
    using states = new HiddenStates(device, arch);
    const choice = await chooseWindow(model, batches, request, states, options);
    const { window } = choice;

    const fit = await method.fit({
      model,
      window,
      batches,
      states,
      alpha,
      ...walk(options),
    });
    const keep = keptLayers(window, arch.layers);
    using stored = new StoredFit(model, window, fit);
    const pruned = model.withLayers(keep, new Map([[window.layer, stored.weights]]));
    const sample = calibration.sequences[0]?.slice(0, 64) ?? [0, 1, 2, 3];
    const expected = (await logits(pruned, sample)).logits;
    // From here on only the fitted weights are needed; the written model is loaded into the freed memory.
    model.dispose();

    return await withOutputFolder(to, outputOptions(from, options), async folder => {
      const checkpoint = await openSafetensors(from);
      try {
        using _section = device.section('write');
        await writePrunedModel(from, folder, checkpoint, arch, keep, stored.replacements, {
          ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
          ...walk(options),
        });
      } finally {
        await checkpoint.close();
      }
      const maxLogitDifference = await verifyWritten(device, folder, sample, expected);
      const report: PruneReport = {
        summary: describeWindow(window, arch.layers),
        method: method.name,
        source: method.source,
        model: { path: from, fingerprint: await modelFingerprint(from), layers: arch.layers },
        output: { path: to, layers: keep.length, keptLayers: keep },
        window: choice,
        recipe,
        calibration: {
          tokens: calibration.tokens,
          sequences: calibration.sequences.length,
          files: calibration.files,
        },
        fit: fit.details,
        warnings: [
          ...warnings(method.needsCalibration, calibration.tokens, arch.hidden, alpha),
          ...(device.programs.exact === 'integer' ? [INTEGERS_USED] : []),
        ],
        verification: { tokens: sample.length, maxLogitDifference },
        adapter: device.info,
        peakMemoryBytes: device.memory.peakBytes,
        seconds: (performance.now() - started) / 1000,
      };
      await writeDocumentation(folder, report);
      device.check();
      options.signal?.throwIfAborted();
      return report;
    });
  } finally {
    if (!options.device) await device.close();
  }
}

/** For work that reports progress but does not look at the signal: every step of it ends when the signal says so. */
const walk = ({ onProgress, signal }: WalkOptions): WalkOptions => ({
  onProgress: event => {
    signal?.throwIfAborted();
    onProgress?.(event);
  },
  ...(signal && { signal }),
});

/** The window asked for, or the one with the smallest mean cosine distance between its ends (ReplaceMe Eq. 4). */
async function chooseWindow(
  model: Model,
  batches: readonly (readonly (readonly number[])[])[],
  { method, window, count }: PruneRequest,
  states: HiddenStates,
  options: PruneOptions,
): Promise<WindowChoice> {
  if (window) return { window, by: 'request' };
  let left = DISTANCE_TOKENS;
  const part = batches.filter(batch => {
    const taken = left > 0;
    left -= totalTokens(batch);
    return taken;
  });
  const [distances] = await windowDistances(model, part, [count], {
    ...walk(options),
    ...(method.needsCalibration && { states }),
  });
  const layer = distances!.indexOf(Math.min(...distances!));
  return { window: { layer, count }, by: 'mean cosine distance', distances: distances! };
}

const INTEGERS_USED =
  'the graphics driver changes float arithmetic that must be exact, so integers did it, which took longer';

function warnings(fitted: boolean, tokens: number, hidden: number, alpha: number): string[] {
  if (!fitted || tokens >= hidden) return [];
  return [
    `${tokens} calibration tokens for ${hidden} dimensions: the least squares has no unique solution` +
      (alpha > 0 ? ', the ridge (alpha) decides what the data leave open' : '; use more tokens or alpha > 0'),
  ];
}
