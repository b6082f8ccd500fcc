import type { Device } from '../../engine/index.js';
import {
  type Architecture,
  type CheckedOutput,
  inDtype,
  type LoadOptions,
  type Model,
  modelOrigin,
  openModelSource,
  verifyWritten,
  writeModel,
} from '../../model/index.js';
import type { PrunedModel } from '../activations/prunedModel.js';
import { dtypeOf, type PruneOptions } from '../options/pruneOptions.js';
import type { PhaseClock } from '../run/phaseClock.js';
import { type RunHooks, runHooks } from '../run/runHooks.js';
import { repeatOf } from './repeat.js';
import type { HealReport, PruneReport } from './schema/schema.js';
import { withoutPaths, writeDocumentation } from './writeReport.js';

/** A model in memory to write as a folder or a GGUF file. */
interface Publication<R extends PruneReport | HealReport> {
  /** The model it was made from, whose other files it takes over. */
  readonly from: string;
  readonly to: string;
  readonly device: Device;
  readonly clock: PhaseClock;
  readonly arch: Architecture;
  readonly model: Pick<PrunedModel, 'keep' | 'replacements'>;
  /** `to`, checked before the work. */
  readonly output: CheckedOutput;
  readonly options: RunHooks & Pick<PruneOptions, 'dtype' | 'maxShardBytes' | 'command' | 'baseModel'>;
  /** Outputs of the model in memory on a few inputs, and how to compute them with the written one. */
  readonly expected: Float32Array;
  outputsOf(written: Model): Promise<Float32Array>;
  readonly offload?: LoadOptions['offload'];
  /** The report, given the largest difference of the outputs. */
  report(maxLogitDifference: number): Promise<R>;
  /** The text of recipe.yaml, which makes the same model again. */
  recipe?(report: R): string;
  /** Called when the output, still at `target`, lacks only its name. */
  beforeRename?(target: string): Promise<void>;
}

/**
 * Writes the model beside `to`, loads it again, compares its outputs with those in memory, adds report and model card, and
 * renames it to `to`: nothing is there until everything is.
 *
 * @throws RmError VERIFICATION_FAILED, NOT_FINITE, OUTPUT_EXISTS, OUTPUT_FAILED; the reason of an aborted signal.
 */
export const publish = <R extends PruneReport | HealReport>(publication: Publication<R>): Promise<R> => {
  const { from, to, device, clock, output, options, expected, outputsOf, offload } = publication;
  return output.write(async target => {
    await clock.during('write', () => writeWeights(publication, target));
    const maxLogitDifference = await clock.during('verify', () =>
      verifyWritten(device, target, outputsOf, expected, offload),
    );
    const report = await publication.report(maxLogitDifference);
    const repeat = repeatOf(report.kind, [from, to], options, { published: true });
    const { baseModel } = options;
    await writeDocumentation(to, target, withoutPaths(report, repeat), {
      origin: { ...(await modelOrigin(from)), ...(baseModel !== undefined && { id: baseModel }) },
      recipe: publication.recipe?.(report),
    });
    device.check();
    options.signal?.throwIfAborted();
    await publication.beforeRename?.(target);
    return report;
  });
};

async function writeWeights<R extends PruneReport | HealReport>(
  { from, device, arch, model: { keep, replacements }, options }: Publication<R>,
  target: string,
): Promise<void> {
  const source = await openModelSource(from);
  const checkpoint = inDtype(await source.openCheckpoint(), options.dtype);
  try {
    await writeModel({ source, checkpoint, arch, keep, replacements, device }, target, {
      ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
      ...dtypeOf(options),
      ...runHooks(options),
    });
  } finally {
    await checkpoint.close();
  }
}
