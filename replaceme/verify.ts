import { type Device, RmError } from '../engine/index.js';
import { logits } from '../model/logits.js';
import { type LoadOptions, Model } from '../model/model.js';

/** Both models hold the same numbers and run the same kernels; anything above rounding is a writing error. */
const TOLERANCE = 1e-4;

/**
 * Loads the written folder and compares its logits for `ids` with those of the model that was in memory.
 *
 * @param expected f32 [ids, vocab].
 * @param stream as Model.load takes it.
 * @returns the largest absolute difference of a logit.
 * @throws RmError VERIFICATION_FAILED when it is above 1e-4; NOT_FINITE when the model in memory gave NaN or infinity.
 */
export async function verifyWritten(
  device: Device,
  folder: string,
  ids: readonly number[],
  expected: Float32Array,
  stream: LoadOptions['stream'] = false,
): Promise<number> {
  using _section = device.section('verify');
  if (!expected.every(Number.isFinite)) {
    throw new RmError(
      'NOT_FINITE',
      'the pruned model gives NaN or infinite logits',
      'Choose another --window or fewer layers; if eval of the unpruned model fails too, its weights are damaged.',
    );
  }
  await using written = await Model.load(device, folder, { stream });
  const found = (await logits(written, ids)).logits;
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    // Math.max keeps a NaN, and NaN is not within the tolerance.
    worst = Math.max(worst, Math.abs(expected[i]! - found[i]!));
  }
  if (worst <= TOLERANCE) return worst;
  throw new RmError(
    'VERIFICATION_FAILED',
    `the written model's logits differ from those in memory by ${worst}`,
    'Nothing was kept. Check the disk, then run again; if it repeats, please report it.',
  );
}
