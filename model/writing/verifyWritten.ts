import { type Device, RmError } from '../../engine/index.js';
import { type LoadOptions, Model } from '../transformer/model.js';

/** Both models hold the same numbers and run the same kernels; anything above rounding is a writing error. */
const TOLERANCE = 1e-4;

/**
 * Loads a written model and compares its outputs for some inputs (logits, or embeddings of images) with those of the model
 * in memory.
 *
 * @param path the written folder or file.
 * @param outputsOf computes a model's outputs.
 * @param expected outputs of the model in memory.
 * @param offload see Model.load.
 * @returns the largest absolute difference.
 * @throws RmError VERIFICATION_FAILED if it exceeds 1e-4; NOT_FINITE if the model in memory gave NaN or infinity.
 */
export async function verifyWritten(
  device: Device,
  path: string,
  outputsOf: (written: Model) => Promise<Float32Array>,
  expected: Float32Array,
  offload: LoadOptions['offload'] = false,
): Promise<number> {
  if (!expected.every(Number.isFinite)) {
    throw new RmError(
      'NOT_FINITE',
      'the pruned model gives NaN or infinite outputs',
      'Choose another `window` or fewer layers; if eval of the unpruned model fails too, its weights are damaged.',
    );
  }
  await using written = await Model.load(device, path, { offload, images: true });
  const outputs = await outputsOf(written);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    // Math.max propagates NaN, which fails the tolerance below.
    worst = Math.max(worst, Math.abs(expected[i]! - outputs[i]!));
  }
  if (worst <= TOLERANCE) return worst;
  throw new RmError(
    'VERIFICATION_FAILED',
    `the written model's outputs differ from those in memory by ${worst}`,
    'Nothing was kept. Check the disk, then run again; if it repeats, please report it.',
  );
}
