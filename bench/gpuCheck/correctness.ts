import { type Device, requireExactArithmetic, Scope, selfTest } from '../../engine/index.js';
import {
  type CaseVariant,
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
/** On a software adapter, variants made for GPUs take minutes in cases above so many operations or bytes: it leaves them out. */
const LARGE_ON_SOFTWARE = 1.5e7;
/** A software driver compiles the sums by floats and by integers about so many times as long as the self tests. */
const SUMS_TO_SELF_TESTS = 10;
/** Share of the time that is kept for what comes after each kernel's first case. */
const REST_SHARE = 0.4;
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

/** A case, and which of its variants are to be checked: all, the one that the device chooses, or all others. */
interface Work {
  readonly item: KernelCase;
  readonly part: 'all' | 'chosen' | 'others';
}

/** Cases in turns between the kernels, the cheapest of each first: where the time ends, every kernel has had some. */
function inTurns(cases: readonly KernelCase[]): KernelCase[][] {
  const kernels = new Map<string, KernelCase[]>();
  for (const item of cases) kernels.set(item.kernel, [...(kernels.get(item.kernel) ?? []), item]);
  const cost = ({ flops, bytes }: KernelCase) => flops + bytes;
  const queues = [...kernels.values()].map(list => list.sort((a, b) => cost(a) - cost(b)));
  const turns: KernelCase[][] = [];
  for (let turn = 0; queues.some(list => turn < list.length); turn++)
    turns.push(queues.flatMap(list => list[turn] ?? []));
  return turns;
}

/**
 * What is to be checked, in its order: first every kernel once, with the variant that the device chooses. A software adapter,
 * which compiles for seconds what was made for GPUs, has the other variants of all cases last.
 */
export function workOf(cases: readonly KernelCase[], software: boolean): { first: Work[]; rest: Work[] } {
  const [turn = [], ...turns] = inTurns(cases);
  const as = (part: Work['part'], items: readonly KernelCase[]) => items.map(item => ({ item, part }));
  const later = turns.flat();
  const first = as('chosen', turn);
  const varied = ({ variants, flops, bytes }: KernelCase) =>
    variants !== undefined && !(software && Math.max(flops, bytes) > LARGE_ON_SOFTWARE);
  if (!software) return { first, rest: [...as('others', turn.filter(varied)), ...as('all', later)] };
  return { first, rest: [...as('chosen', later), ...as('others', [...turn, ...later].filter(varied))] };
}

/** The variants of this part; a kernel without variants has one, undefined. */
function variantsOf(device: Device, { item, part }: Work): readonly (CaseVariant | undefined)[] {
  const variants = item.variants?.(device) ?? [undefined];
  return part === 'all' ? variants : part === 'chosen' ? variants.slice(0, 1) : variants.slice(1);
}

/**
 * Does the work piece by piece, until so many seconds are left, and takes it off the list; after a failure of the device the
 * next piece gets a new device.
 */
async function checkCases(run: StepRun, counts: Counts, rest: Work[], spare = 0): Promise<void> {
  while (rest.length > 0 && run.left > spare) {
    const device = await run.open();
    try {
      for (let work = rest.shift(); work; work = run.left > spare ? rest.shift() : undefined) {
        const { item, part } = work;
        const what = `${item.kernel} ${item.name}`;
        const variants = variantsOf(device, work);
        if (variants.length === 0) continue;
        run.at(what);
        try {
          for await (const checked of checkCase(device, item, variants)) {
            counts.variants++;
            if (!judge(run, item, checked)) counts.wrong++;
          }
          if (part !== 'others') counts.cases++;
          run.detail(
            'reached',
            `${counts.cases} of ${kernelCases.length} cases with ${counts.variants} runs of variants`,
          );
        } catch (error) {
          run.failed(what, error);
          break;
        }
      }
    } finally {
      await device.close();
    }
  }
}

/** Says what there was no time for. */
function tellLeftOut(run: StepRun, rest: readonly Work[]): void {
  const cases = rest.filter(({ part }) => part !== 'others');
  const others = rest.length - cases.length;
  if (cases.length > 0) run.note(`no time for ${cases.length} of ${kernelCases.length} cases of the kernels`);
  if (others > 0) run.note(`no time for the variants of ${others} cases that the device does not choose`);
  const kernels = [...new Set(rest.filter(({ part }) => part === 'chosen').map(({ item }) => item.kernel))];
  run.detail('leftOut', { cases: cases.length, others, kernels });
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
  if (run.left <= 0) {
    run.note('no time for exact arithmetic');
    return outcome;
  }
  await run.piece('exact arithmetic', async device => {
    const failed = async (exact: 'float' | 'integer') =>
      Object.entries(await selfTest(device, exact)).flatMap(([name, passed]) => (passed ? [] : [name]));
    const started = performance.now();
    const [floats, integers] = [await failed('float'), await failed('integer')];
    const selfTests = (performance.now() - started) / 1000;
    run.detail('exactArithmetic', { floats, integers });
    if (integers.length > 0) run.wrong(`exact arithmetic by integers fails: ${integers.join(', ')}`, REPORT);
    if (floats.length > 0)
      run.warn(`exact arithmetic by floats fails (${floats.join(', ')}); integers are used, which is slower`);
    outcome = `floats ${floats.length > 0 ? 'no' : 'yes'}, integers ${integers.length > 0 ? 'no' : 'yes'}`;
    if (floats.length + integers.length > 0) return;
    if (run.left < SUMS_TO_SELF_TESTS * selfTests)
      return run.note('no time to compare sums by floats and by integers');
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

/**
 * All cases once more, with guards behind the tensors, as far as the time goes: matrix units and subgroups of this size run
 * on no software driver. @returns how many.
 */
async function checkGuards(run: StepRun): Promise<number> {
  let cases = 0;
  await run.piece(
    'guards behind tensors',
    async device => {
      for (const item of inTurns(kernelCases).flat()) {
        if (run.left <= 0) break;
        for await (const checked of checkCase(device, item)) judge(run, item, checked);
        cases++;
      }
    },
    { guards: true },
  );
  return cases;
}

/** Every kernel with all its variants against the host in f64, twice; exact arithmetic; shapes of large models. */
export async function correctnessStep(run: StepRun): Promise<void> {
  const device = await run.open();
  const software = device.info.kind === 'software';
  await device.close();
  const small: Counts = { cases: 0, variants: 0, wrong: 0 };
  const large: Counts = { cases: 0, variants: 0, wrong: 0 };
  const { first, rest } = workOf(kernelCases, software);
  await checkCases(run, small, first, REST_SHARE * run.left);
  const exact = await checkExactArithmetic(run);
  rest.unshift(...first);
  await checkCases(run, small, rest, LARGE_SHARE * run.left);
  await checkLargeCases(run, software, large);
  await checkCases(run, small, rest);
  tellLeftOut(run, rest);
  // CI has done that on software drivers.
  const guarded = software || run.left <= 0 ? 0 : await checkGuards(run);
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
      ['with guards behind tensors', `${guarded}`, '', ''],
      ['exact arithmetic', exact, '', ''],
    ],
  });
}
