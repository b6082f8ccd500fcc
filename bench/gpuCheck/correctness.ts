import { type Device, requireExactArithmetic, Scope, selfTest } from '../../engine/index.js';
import {
  type CheckedVariant,
  checkCase,
  checkSampledCase,
  downloadF64,
  type KernelCase,
  kernelCases,
  outlierSums,
  type SampledCase,
  sampledAdd,
  sampledGram,
  sampledMatmul,
} from '../../kernels/index.js';
import { left, right } from '../measure.js';
import type { StepRun } from './stepRun.js';

const REPORT =
  'Please report it with gpu-check.json. Until then choose another adapter, or update the driver.';
/** On a software adapter, variants made for GPUs take minutes in cases above so many operations or bytes. */
const LARGE_ON_SOFTWARE = 1.5e7;
/** Share of the time that the large shapes may take before the last cases. */
const LARGE_SHARE = 0.4;
const GIB = 2 ** 30;

interface Counts {
  cases: number;
  variants: number;
  wrong: number;
}

/** Tells a variant that is wrong, or that does not repeat. @returns whether it is right. */
function judge(
  run: StepRun,
  item: Pick<KernelCase, 'kernel' | 'name' | 'tolerance'>,
  checked: CheckedVariant,
): boolean {
  const { variant, error, repeats } = checked;
  const what = `${item.kernel} ${item.name}${variant === undefined ? '' : `, variant '${variant}'`}`;
  // Written so that NaN is wrong.
  const accurate = error <= item.tolerance;
  if (!accurate)
    run.wrong(
      `${what}: error ${error.toExponential(1)}, accepted are ${item.tolerance.toExponential(1)}`,
      REPORT,
    );
  if (!repeats) run.wrong(`${what}: a second run gives other bits`, REPORT);
  return accurate && repeats;
}

/** Cases in turns between the kernels, the cheapest of each first: where the time ends, every kernel has had some. */
function inTurns(cases: readonly KernelCase[]): KernelCase[] {
  const kernels = new Map<string, KernelCase[]>();
  for (const item of cases) kernels.set(item.kernel, [...(kernels.get(item.kernel) ?? []), item]);
  const cost = ({ flops, bytes }: KernelCase) => flops + bytes;
  const queues = [...kernels.values()].map(list => list.sort((a, b) => cost(a) - cost(b)));
  const turns: KernelCase[] = [];
  for (let turn = 0; queues.some(list => turn < list.length); turn++)
    turns.push(...queues.flatMap(list => list[turn] ?? []));
  return turns;
}

/**
 * Checks cases one by one, until so many seconds are left, and takes them off the list; after a failure of the device the
 * next one gets a new device.
 */
async function checkCases(run: StepRun, counts: Counts, rest: KernelCase[], spare = 0): Promise<void> {
  while (rest.length > 0 && run.left > spare) {
    const device = await run.open();
    const software = device.info.kind === 'software';
    try {
      for (let item = rest.shift(); item; item = run.left > spare ? rest.shift() : undefined) {
        run.at(`${item.kernel} ${item.name}`);
        try {
          const large = software && Math.max(item.flops, item.bytes) > LARGE_ON_SOFTWARE;
          const variants = large ? item.variants?.(device).slice(0, 1) : undefined;
          for await (const checked of checkCase(device, item, variants)) {
            counts.variants++;
            if (!judge(run, item, checked)) counts.wrong++;
          }
          counts.cases++;
        } catch (error) {
          run.failed(`${item.kernel} ${item.name}`, error);
          break;
        }
      }
    } finally {
      await device.close();
    }
  }
}

/** The values of sums that go through exact arithmetic. */
async function exactSums(device: Device): Promise<Float64Array[]> {
  using scope = new Scope(device);
  const { g, c } = outlierSums(device, scope);
  return [await downloadF64(g), await downloadF64(c)];
}

/** Double-single arithmetic by floats and by integers: exact, and the same bits. */
async function checkExactArithmetic(run: StepRun): Promise<string> {
  let outcome = 'not checked';
  await run.piece('exact arithmetic', async device => {
    const failed = async (exact: 'float' | 'integer') =>
      Object.entries(await selfTest(device, exact)).flatMap(([name, passed]) => (passed ? [] : [name]));
    const [floats, integers] = [await failed('float'), await failed('integer')];
    run.detail('exactArithmetic', { floats, integers });
    if (integers.length > 0) run.wrong(`exact arithmetic by integers fails: ${integers.join(', ')}`, REPORT);
    if (floats.length > 0)
      run.warn(`exact arithmetic by floats fails (${floats.join(', ')}); integers are used, which is slower`);
    outcome = `floats ${floats.length > 0 ? 'no' : 'yes'}, integers ${integers.length > 0 ? 'no' : 'yes'}`;
    if (floats.length + integers.length > 0) return;
    await requireExactArithmetic(device);
    const byFloats = await exactSums(device);
    device.programs.exact = 'integer';
    const byIntegers = await exactSums(device);
    if (byFloats.some((values, i) => values.some((value, j) => !Object.is(value, byIntegers[i]![j]))))
      run.wrong('sums by floats and by integers differ', REPORT);
    else outcome += ', same bits';
  });
  return outcome;
}

/** Shapes of large models; on a software adapter small ones. */
function largeCases(software: boolean): SampledCase[] {
  const cases = software
    ? [
        sampledMatmul({ form: 'NT', m: 64, n: 448, k: 256, b: 'bf16' }),
        sampledMatmul({ form: 'TN', m: 448, n: 448, k: 64, lower: true }),
        sampledMatmul({ form: 'NT', m: 4, n: 256, k: 512, b: 'bf16', behind: 8 << 20 }),
        sampledGram(1024, 128),
        sampledGram(1024, 128, 64),
      ]
    : [
        sampledMatmul({ form: 'NT', m: 2048, n: 14336, k: 4096, b: 'bf16' }),
        sampledMatmul({ form: 'NT', m: 2048, n: 14336, k: 4096, a: 'f16', b: 'f16' }),
        sampledMatmul({ form: 'TN', m: 14336, n: 14336, k: 2048, lower: true }),
        sampledMatmul({ form: 'NT', m: 16, n: 1024, k: 4096, b: 'bf16', behind: 2.25 * GIB }),
        sampledAdd(16_411, 4096),
        sampledGram(16_384, 4096),
        sampledGram(16_384, 4096, 1024),
      ];
  return cases as unknown as SampledCase[];
}

async function checkLargeCases(run: StepRun, software: boolean, counts: Counts): Promise<void> {
  const cases = largeCases(software);
  for (const [i, item] of cases.entries()) {
    if (run.left <= 0) {
      run.note(`no time for ${cases.length - i} of ${cases.length} large shapes`);
      return;
    }
    await run.piece(`${item.kernel} ${item.name}`, async device => {
      // Each shape runs with the variant that the device chooses, on a GPU with all.
      const variants = software ? item.variants?.(device).slice(0, 1) : undefined;
      for await (const checked of checkSampledCase(device, item, variants)) {
        counts.variants++;
        if (!judge(run, item, checked)) counts.wrong++;
        run.at(`${item.kernel} ${item.name}, after '${checked.variant}'`);
        if (run.left <= 0) break;
      }
      counts.cases++;
    });
  }
}

/** Every kernel with all its variants against the host in f64, twice; exact arithmetic; shapes of large models. */
export async function correctnessStep(run: StepRun): Promise<void> {
  const exact = await checkExactArithmetic(run);
  const large: Counts = { cases: 0, variants: 0, wrong: 0 };
  const device = await run.open();
  const software = device.info.kind === 'software';
  await device.close();
  const small: Counts = { cases: 0, variants: 0, wrong: 0 };
  const rest = inTurns(kernelCases);
  await checkCases(run, small, rest, LARGE_SHARE * run.left);
  await checkLargeCases(run, software, large);
  await checkCases(run, small, rest);
  if (rest.length > 0) run.note(`no time for ${rest.length} of ${kernelCases.length} cases of the kernels`);
  run.detail('counts', { small, large });
  run.metric('cases of kernels', small.cases, '');
  run.metric('large shapes', large.cases, '');
  const row = (what: string, { cases, variants, wrong }: Counts) => [
    what,
    `${cases}`,
    `${variants}`,
    `${wrong}`,
  ];
  run.table('Kernels against the host in f64', {
    columns: [left('what'), right('cases'), right('runs of variants'), right('wrong')],
    rows: [
      row('all results', small),
      row('large shapes, 64 sampled results', large),
      ['exact arithmetic', exact, '', ''],
    ],
  });
}
