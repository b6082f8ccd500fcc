/**
 * Programs of variants are compared with the host at their first use. Every kernel that has variants is right here, and
 * wrong where a program is compiled to compute nothing. Takes about 5 s.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { tune } from '../../bench/tune.js';
import { Device, download, Scope } from '../../engine/index.js';
import { variantChecks } from '../../kernels/cases/variantChecks.js';
import { type KernelCase, kernelCases, tuningCases } from '../../kernels/index.js';
import { checkVariants, isWrong, verdictsOf } from '../../kernels/shared/trustedVariants.js';
import { rejectsWith } from '../gpu.js';

/** Runs a case with the variant that the kernel chooses, and returns the error of its result in units of the tolerance. */
async function errorOf(device: Device, item: KernelCase): Promise<number> {
  using scope = new Scope(device);
  const { run, output, reference } = await item.setup(scope);
  run(device.recorder);
  const values = new Float32Array((await download(output)).buffer);
  const { expected, scale } = reference();
  const norm = (list: ArrayLike<number>) => Math.hypot(...Array.from(list));
  const difference = Array.from(expected, (value, i) => value - values[i]!);
  return norm(difference) / (scale ?? norm(expected)) / item.tolerance;
}

const caseNamed = (kernel: string, name: string): KernelCase => {
  const found = kernelCases.find(item => item.kernel === kernel && item.name === name);
  assert.ok(found, `${kernel} ${name}`);
  return found;
};

/** A case of each kernel with variants. */
const cases = [
  caseNamed('matmul', 'NT 3x128x576 f32 x bf16 + bias, gelu'),
  caseNamed('matmul', 'NT 129x131x127 f16 + bias + residual'),
  caseNamed('gatedMatmul', '8x132x64 bf16 silu'),
  caseNamed('attention', 'causal 129, heads 9/3 x 64'),
  caseNamed('attention', 'decode 1 of 1000, heads 9/3 x 64'),
  caseNamed('crossGram', '1000x129, 1000x68 weighted'),
  caseNamed('cholesky', '129 double-single'),
];

async function withPlanted<T>(key: string, work: () => Promise<T>): Promise<T> {
  process.env.RM_ENGINE_WRONG_KERNEL = key;
  try {
    return await work();
  } finally {
    delete process.env.RM_ENGINE_WRONG_KERNEL;
  }
}

test('right programs are checked once and found right', async () => {
  await using device = await Device.open();
  checkVariants(device, variantChecks);
  const live = device.memory.liveBytes;
  for (const item of cases) assert.ok((await errorOf(device, item)) <= 1, `${item.kernel} ${item.name}`);
  assert.is(device.memory.liveBytes, live);
  const verdicts = verdictsOf(device)!;
  assert.equal(verdicts.wrong, {});
  for (const kernel of ['matmul', 'gatedMatmul', 'attention', 'outer products', 'block product pair'])
    assert.ok(
      verdicts.right.some(program => program.startsWith(kernel)),
      `${kernel}: ${verdicts.right}`,
    );
  const { dispatches } = device.recorder;
  await errorOf(device, cases[0]!);
  assert.is(device.recorder.dispatches, dispatches + 1, 'no second check');
});

test('a wrong program fails the device before a result is read; the next device does without the variant', async () => {
  for (const item of cases.filter((_, i) => i !== 1)) {
    await using plain = await Device.open();
    checkVariants(plain, variantChecks);
    await errorOf(plain, item);
    // The program of the case itself comes last: cholesky uses several.
    const program = verdictsOf(plain)!.right.at(-1)!;
    await withPlanted(program, async () => {
      await using device = await Device.open();
      checkVariants(device, variantChecks);
      const message = await rejectsWith(() => errorOf(device, item), 'SELF_TEST_FAILED');
      assert.match(message, /computes wrong results.*times the accepted error/);
      const found = verdictsOf(device)!;
      assert.is(Object.keys(found.wrong).length, 1, JSON.stringify(found.wrong));
      await using next = await Device.open();
      checkVariants(next, variantChecks, found);
      assert.ok(
        (await errorOf(next, item)) <= 1,
        `${item.kernel} ${item.name} without ${Object.keys(found.wrong)}`,
      );
    });
  }
});

test('a kernel whose variants are all wrong is refused', async () => {
  await withPlanted('gatedMatmul', async () => {
    const item = cases[2]!;
    let known = { right: [] as readonly string[], wrong: {} as Readonly<Record<string, string>> };
    for (let i = 0; ; i++) {
      await using device = await Device.open();
      checkVariants(device, variantChecks, known);
      await rejectsWith(() => errorOf(device, item), 'SELF_TEST_FAILED');
      const found = verdictsOf(device)!;
      if (Object.keys(found.wrong).length === Object.keys(known.wrong).length) {
        const message = await rejectsWith(() => errorOf(device, item), 'SELF_TEST_FAILED');
        assert.match(message, /all variants of gatedMatmul/);
        assert.is(i, item.variants!(device).length);
        break;
      }
      known = found;
    }
  });
});

test('tune compares before it times', async () => {
  await using device = await Device.open();
  const [first] = tuningCases(device);
  const names = first!.item.variants!(device).map(({ name }) => name);
  const wrong = `matmul ${names[0]}`;
  await withPlanted(wrong, async () => {
    const result = await tune(device, { cases: [first!], seconds: 60 });
    assert.equal(Object.keys(result.wrong), [wrong]);
    assert.ok(isWrong(device, 'matmul', names[0]!));
    assert.not.ok(names[0]! in result.measured[0]!.milliseconds);
    assert.is(result.measured[0]!.builtIn, names[1]);
  });
});

test.run();
