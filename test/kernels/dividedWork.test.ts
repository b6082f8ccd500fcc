import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, download, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { attention } from '../../kernels/attention/attention.js';
import type { AttentionVariant } from '../../kernels/attention/variants.js';
import { causalRanges } from '../../kernels/cases/attention.js';
import { gram } from '../../kernels/gram/gram.js';
import { matmul } from '../../kernels/matmul/matmul.js';
import { clearDoubleSingle, createDoubleSingle } from '../../kernels/shared/doubleSingle.js';
import { normals } from '../gpu.js';

/** A device assumed to be so slow that every kernel divides its work among many dispatches. */
async function slowDevice(): Promise<Device> {
  const device = await Device.open();
  Object.defineProperty(device, 'assumedRates', { value: { flops: 1e6, bytes: 1e6 } });
  return device;
}

/** The bytes that `work` writes, and the number of its dispatches. */
type Outcome = { bytes: Buffer; dispatches: number };

async function outcome(device: Device, work: (scope: Scope) => Tensor): Promise<Outcome> {
  using scope = new Scope(device);
  const before = device.recorder.dispatches;
  const output = work(scope);
  const dispatches = device.recorder.dispatches - before;
  return { bytes: Buffer.from(await download(output)), dispatches };
}

const works: Record<string, (scope: Scope) => Tensor> = {
  matmul(scope) {
    const random = (rows: number, seed: number) =>
      scope.own(tensorFrom(scope.device, normals(rows * 65, seed), [rows, 65]));
    const out = scope.tensor([131, 200]);
    matmul(scope.device.recorder, random(131, 1), random(200, 2), out, { transposeB: true });
    return out;
  },
  gram(scope) {
    const x = scope.own(tensorFrom(scope.device, normals(700 * 33), [700, 33]));
    const out = createDoubleSingle(scope, [33, 33]);
    clearDoubleSingle(scope.device.recorder, out);
    gram(scope.device.recorder, x, undefined, out);
    return out.hi;
  },
  ...Object.fromEntries(
    [undefined, { name: 'tiled', program: 'tiled' } as const].map((variant: AttentionVariant | undefined) => [
      `attention ${variant?.name ?? 'by default'}`,
      (scope: Scope) => {
        const random = (columns: number, seed: number) =>
          scope.own(tensorFrom(scope.device, normals(150 * columns, seed), [150, columns]));
        const ranges = scope.own(tensorFrom(scope.device, causalRanges([90, 60]), [150, 2]));
        const out = scope.tensor([150, 64]);
        const [q, k, v] = [random(64, 1), random(32, 2), random(32, 3)];
        const options = { heads: 4, kvHeads: 2, headDim: 16, scale: 0.25, variant };
        attention(scope.device.recorder, q, k, v, ranges, out, options);
        return out;
      },
    ]),
  ),
};

let devices: Device[];
test.before(async () => {
  devices = [await Device.open(), await slowDevice()];
});
test.after(async () => {
  for (const device of devices) await device.close();
});

for (const [name, work] of Object.entries(works)) {
  test(`${name}: many dispatches give the bits of one`, async () => {
    const [whole, divided] = await Promise.all(devices.map(device => outcome(device, work)));
    assert.ok(divided!.dispatches > whole!.dispatches, `${divided!.dispatches} dispatches`);
    assert.is(Buffer.compare(divided!.bytes, whole!.bytes), 0);
  });
}

test.run();
