import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import type { CaseVariant, KernelCase } from '../../kernels/cases/case.js';
import { checkCase } from '../../kernels/cases/checkCase.js';
import { saySkipped } from '../support.js';

/** Above these operations or bytes, drivers on the CPU would need minutes for the variants made for GPUs. */
const LARGE = 1.5e7;

/** Limits large cases to the default variant on a software adapter, and says so. */
export function chosenVariantWhereLarge(cases: readonly KernelCase[]): KernelCase[] {
  const skipped = new Set<string>();
  test.after(() => {
    if (skipped.size)
      saySkipped(`variants other than the chosen one on a software adapter: ${[...skipped].join('; ')}`);
  });
  return cases.map(item => ({
    ...item,
    variants(device) {
      const variants = item.variants?.(device) ?? [];
      if (device.info.kind !== 'software' || Math.max(item.flops, item.bytes) <= LARGE) return variants;
      skipped.add(`${item.kernel} ${item.name}`);
      return variants.slice(0, 1);
    },
  }));
}

/** All variants that the device can run; in `npm run test:fast` the one that runs by default. */
function variantsOf(item: KernelCase, device: Device): readonly (CaseVariant | undefined)[] {
  const variants = item.variants?.(device) ?? [undefined];
  return process.env.RM_TEST_FAST ? variants.slice(0, 1) : variants;
}

/**
 * Registers one test per case on one shared device. It checks, for every variant, the error against the host reference and
 * equal bits in a second run, and at the end that all memory is freed. Call before `test.run()`.
 *
 * @returns the device, for further tests of the same file.
 */
export function testCases(cases: readonly KernelCase[]): () => Device {
  let device: Device | undefined;
  test.before(async () => {
    device = await Device.open();
  });
  test.after(async () => {
    await device?.close();
  });
  for (const item of cases) {
    test(`${item.kernel} ${item.name}`, async () => {
      const { memory } = device!;
      const before = memory.liveBytes;
      for await (const checked of checkCase(device!, item, variantsOf(item, device!))) {
        const what = checked.variant === undefined ? '' : `${checked.variant}: `;
        const { error } = checked;
        // Written so that NaN fails.
        assert.ok(error <= item.tolerance, `${what}error ${error.toExponential(2)} > ${item.tolerance}`);
        assert.ok(checked.repeats, `${what}the same inputs give the same bits`);
      }
      assert.is(memory.liveBytes, before, 'live bytes after the case');
    });
  }
  return () => device!;
}
