import { type Device, downloadU32, type Tensor, tensorFrom } from '../../engine/index.js';
import { countNonFinite } from '../../kernels/index.js';

/** Finds the first tensor that holds NaN or infinity, and counts these values; undefined if all are finite. */
export async function firstNonFinite(
  device: Device,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<{ readonly name: string; readonly tensor: Tensor; readonly count: number } | undefined> {
  const countIn = async (some: Iterable<Tensor>) => {
    using counter = tensorFrom(device, new Uint32Array(1));
    for (const tensor of some) countNonFinite(device.recorder, tensor, counter);
    return (await downloadU32(counter))[0]!;
  };
  if ((await countIn(tensors.values())) === 0) return undefined;
  for (const [name, tensor] of tensors) {
    const count = await countIn([tensor]);
    if (count > 0) return { name, tensor, count };
  }
  return undefined;
}
