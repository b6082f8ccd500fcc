import { type Device, RmError } from '../../engine/index.js';
import { type LoadOptions, Model } from '../transformer/model.js';

/** Both models hold the same numbers and run the same kernels; anything above rounding is a writing error. */
const TOLERANCE = 1e-4;

/**
 * Loads what was written and compares what it makes of some inputs (logits, embeddings of images) with what the model
 * made of them that was in memory.
 *
 * @param path of the folder or file.
 * @param outputsOf what a model makes of the inputs.
 * @param expected what the model in memory made of them.
 * @param stream as Model.load takes it.
 * @returns the largest absolute difference.
 * @throws RmError VERIFICATION_FAILED when it is above 1e-4; NOT_FINITE when the model in memory gave NaN or infinity.
 */
export async function verifyWritten(
  device: Device,
  path: string,
  outputsOf: (written: Model) => Promise<Float32Array>,
  expected: Float32Array,
  stream: LoadOptions['stream'] = false,
): Promise<number> {
  using _section = device.section('verify');
  if (!expected.every(Number.isFinite)) {
    throw new RmError(
      'NOT_FINITE',
      'the pruned model gives NaN or infinite outputs',
      'Choose another --window or fewer layers; if eval of the unpruned model fails too, its weights are damaged.',
    );
  }
  await using written = await Model.load(device, path, { stream, images: true });
  const found = await outputsOf(written);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    // Math.max keeps a NaN, and NaN is not within the tolerance.
    worst = Math.max(worst, Math.abs(expected[i]! - found[i]!));
  }
  if (worst <= TOLERANCE) return worst;
  throw new RmError(
    'VERIFICATION_FAILED',
    `the written model's outputs differ from those in memory by ${worst}`,
    'Nothing was kept. Check the disk, then run again; if it repeats, please report it.',
  );
}
