// gpu-check: the report and its comparison, the budget, steps that crash or hang (fakes), and the command with a small budget on
// the machine's own adapter. Costs 20 s, most of it the last.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { graceOf, nextShare, softwareTime, stepSeconds } from '../../bench/gpuCheck/budget.js';
import { compareReports, comparisonTables } from '../../bench/gpuCheck/compareReports.js';
import { workOf } from '../../bench/gpuCheck/correctness.js';
import { gpuCheckForm } from '../../bench/gpuCheck/form.js';
import { gpuCheckMarkdown } from '../../bench/gpuCheck/markdown.js';
import {
  FORMAT,
  type GpuCheckReport,
  type StepInput,
  type StepName,
  type StepReport,
  stepNames,
  verdictOf,
} from '../../bench/gpuCheck/report.js';
import { runStep } from '../../cli/gpuCheck/runStep.js';
import { runSteps } from '../../cli/gpuCheck/runSteps.js';
import { type KernelCase, kernelCases } from '../../kernels/index.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { ownCache, rmEngine } from './support.js';

const fakeStep = fileURLToPath(new URL('./gpuCheckStep.js', import.meta.url));
const never = new AbortController().signal;

const stepReport = (step: StepName, change: Partial<StepReport> = {}): StepReport => ({
  ...{ step, status: 'done', seconds: 1, limitSeconds: 2 },
  ...{ findings: [], metrics: [], tables: [], details: {} },
  ...change,
});

const report = (steps: readonly StepReport[], change: Partial<GpuCheckReport> = {}): GpuCheckReport => ({
  ...{
    format: FORMAT,
    version: '1.2.3',
    node: 'v20.0.0',
    platform: 'linux x64',
    date: '2026-01-31T00:00:00Z',
  },
  ...{ budgetSeconds: 480, seconds: 9, complete: true, steps },
  adapter: {
    ...{ description: 'driver 5', vendor: 'v', architecture: 'a', device: 'Card X', kind: 'gpu' },
    ...{ subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [] },
  },
  ...change,
});

test('the budget: shares in proportion, what is left goes on, too little is nothing', () => {
  const sum = stepNames.reduce((total, step) => total + stepSeconds[step], 0);
  assert.is(sum, 460);
  let left = 480;
  for (const [i, step] of stepNames.entries()) {
    const share = nextShare(left, stepNames.slice(i))!;
    // A step that needs all of its share leaves each later one its own.
    assert.ok(Math.abs(share - (480 * stepSeconds[step]) / sum) < 1e-9);
    left -= share;
  }
  assert.ok(Math.abs(left) < 1e-9);
  // All for one; twice as much where the first needs nothing.
  assert.is(nextShare(100, ['prune']), 100);
  assert.is(nextShare(1, stepNames), undefined);
  assert.is(nextShare(-5, ['stress']), undefined);
  assert.is(graceOf(100), 50);
  assert.is(graceOf(1), 20);
});

test('the budget on a software adapter holds even where every step has to be ended, and each has some of it', () => {
  for (const budget of [480, 960]) {
    let left = budget;
    for (const [i] of stepNames.entries()) {
      const { seconds, grace } = softwareTime(budget, left, stepNames.slice(i))!;
      assert.ok(seconds >= budget / 60 && grace >= 2, `${budget} ${stepNames[i]} ${seconds} ${grace}`);
      left -= seconds + grace;
    }
    assert.ok(left >= -1e-9, `${budget}: ${left}`);
  }
  // Steps that keep their time have their shares.
  assert.is(softwareTime(480, 480, stepNames)!.seconds, nextShare(480, stepNames));
  assert.is(softwareTime(480, 0, stepNames), undefined);
  // Half of the time is for comparing kernels, which takes longest there.
  assert.ok(softwareTime(480, 470, stepNames.slice(1))!.seconds > 0.5 * 480);
  // A small budget would cut every step.
  assert.ok(softwareTime(20, 20, ['correctness'])!.grace > 15);
});

test('correctness checks every kernel once before anything else, all cases and variants in the end', () => {
  const one = ({ kernel, name }: KernelCase) => `${kernel} ${name}`;
  const small = kernelCases.filter(({ flops, bytes }) => Math.max(flops, bytes) <= 1.5e7);
  for (const software of [false, true]) {
    const { first, rest } = workOf(kernelCases, software);
    const kernels = new Set(kernelCases.map(({ kernel }) => kernel));
    assert.is(first.length, kernels.size);
    assert.equal(new Set(first.map(({ item }) => item.kernel)), kernels);
    const of = (...parts: string[]) =>
      [...first, ...rest].filter(({ part }) => parts.includes(part)).map(({ item }) => one(item));
    assert.equal(of('chosen', 'all').sort(), kernelCases.map(one).sort());
    // Large cases with variants that were made for GPUs are too much for a CPU.
    const others = new Set(of('others', 'all'));
    const varied = (software ? small : kernelCases).filter(({ variants }) => variants);
    for (const item of varied) assert.ok(others.has(one(item)), one(item));
    if (software) assert.is(others.size, varied.length);
  }
});

test('the verdict: wrong wins, what is missing makes it partly', () => {
  const wrong = stepReport('peak', { findings: [{ level: 'wrong', text: 'x' }] });
  const slow = stepReport('peak', { findings: [{ level: 'warning', text: 'x' }] });
  const verdicts = (...steps: StepReport[]) => verdictOf(report(steps));
  assert.is(verdicts(stepReport('environment'), slow), 'right');
  assert.is(verdicts(wrong), 'wrong');
  assert.is(verdicts(stepReport('peak', { status: 'failed' })), 'wrong');
  assert.is(verdicts(stepReport('peak', { status: 'skipped' })), 'partly');
  assert.is(verdictOf(report([stepReport('peak')], { complete: false })), 'partly');
});

test('Markdown: the verdict first, then what to do, then the tables', () => {
  const findings = Array.from({ length: 10 }, (_, i) => ({
    level: 'wrong' as const,
    text: `case ${i}`,
    fix: 'Do this.',
  }));
  const text = gpuCheckMarkdown(
    report([
      stepReport('correctness', { findings }),
      stepReport('peak', {
        tables: [
          {
            title: 'Peak',
            columns: [{ title: 'what' }, { title: 'rate', align: 'right' }],
            rows: [['a | b', '3']],
          },
        ],
      }),
      stepReport('stress', { status: 'skipped' }),
    ]),
  );
  const lines = text.split('\n');
  assert.is(lines[0], '# gpu-check');
  assert.match(lines[2]!, /^\*\*WRONG: .*correctness/);
  assert.match(text, /\n- correctness: case 0\. Do this\.\n/);
  assert.match(text, /- correctness: 2 more, see gpu-check\.json/);
  assert.match(text, /Card X, driver 5/);
  assert.match(text, /\| correctness \| WRONG \|/);
  assert.match(text, /\| stress \| skipped \|/);
  assert.match(text, /\n## Peak\n\n\| what \| rate \|\n/);
  assert.match(text, /a \\\| b/);
  assert.ok(text.indexOf('WRONG') < text.indexOf('## Steps'));
});

test('what was predicted stands beside what was measured, with the share that was reached', () => {
  const metrics = [
    { name: 'rate', value: 2, unit: 'TFLOP/s', better: 'higher', predicted: 4 },
    { name: 'time', value: 2, unit: 'ms', better: 'lower', predicted: 3 },
    { name: 'other', value: 2, unit: 'ms', better: 'lower' },
  ] as const;
  const predicted = report([stepReport('peak', { metrics })]);
  const text = gpuCheckMarkdown(predicted);
  assert.match(text, /\n## Beside the prediction\n/);
  assert.match(text, /\| peak \| rate \| TFLOP\/s \| 4\.00 \| 2\.00 \| 0\.50 \|/);
  assert.match(text, /\| peak \| time \| ms \| 3\.00 \| 2\.00 \| 1\.50 \|/);
  assert.not.match(text, /other/);
  assert.is(gpuCheckForm(JSON.parse(JSON.stringify(predicted)), ''), undefined);
  assert.not.match(gpuCheckMarkdown(report([stepReport('peak')])), /prediction/);
});

test('comparison: the numbers of both by name, and how much better B is', () => {
  const metrics = (...values: [string, number, 'higher' | 'lower'][]) =>
    values.map(([name, value, better]) => ({ name, value, unit: 'u', better }));
  const a = report([
    stepReport('peak', {
      metrics: metrics(['rate', 2, 'higher'], ['time', 8, 'lower'], ['only A', 1, 'higher']),
    }),
  ]);
  const b = report([
    stepReport('peak', {
      metrics: metrics(['time', 2, 'lower'], ['rate', 6, 'higher'], ['zero', 0, 'lower']),
    }),
  ]);
  assert.equal(
    compareReports(a, b).map(({ name, a, b, gain }) => [name, a, b, gain]),
    [
      ['rate', 2, 6, 3],
      ['time', 8, 2, 4],
      ['only A', 1, undefined, undefined],
      ['zero', undefined, 0, undefined],
    ],
  );
  const [machines, numbers] = comparisonTables(a, b);
  assert.equal(
    machines!.rows.find(([what]) => what === 'peak'),
    ['peak', 'done', 'done'],
  );
  assert.equal(
    machines!.rows.find(([what]) => what === 'stress'),
    ['stress', 'not run', 'not run'],
  );
  assert.is(numbers!.rows.length, 4);
});

const input = (adapter: string, seconds = 1): StepInput => ({
  ...{ step: 'peak', seconds, adapter, allowSoftware: true, folder: '', command: [], earlier: {} },
});
const fakeOptions = { signal: never, onProgress: () => {}, module: fakeStep };
const fake = (adapter: string, graceSeconds = 30, seconds = 1) =>
  runStep(input(adapter, seconds), { ...fakeOptions, graceSeconds });

test('a step that crashes, exits or hangs is a finding; what it told before is kept', async () => {
  const ended: Record<string, RegExp> = {
    crash: /crashed \(SIGSEGV\) at: the first piece/,
    exit: /crashed \(exit code 3\) at: the first piece/,
    hang: /hung for \d+ s at: the first piece/,
  };
  for (const [how, text] of Object.entries(ended)) {
    const started = performance.now();
    const { report } = await fake(how, how === 'hang' ? 3 : 30, how === 'hang' ? 4 : 1);
    assert.ok(performance.now() - started < 20_000, how);
    assert.is(report.status, 'failed');
    assert.equal(
      report.metrics.map(({ name }) => name),
      ['rate'],
    );
    assert.equal(report.findings[0], { level: 'note', text: 'so far' });
    assert.is(report.findings[1]!.level, 'wrong');
    assert.match(report.findings[1]!.text, text);
    assert.ok(report.findings[1]!.fix!.length > 10);
    if (how === 'crash') assert.is(report.stderr, 'the driver says goodbye');
    if (how === 'hang' && process.platform !== 'win32') {
      await delay(200);
      // Ended and perhaps not yet collected by the system.
      const pid = report.details.pid as number;
      const state = existsSync(`/proc/${pid}/stat`)
        ? readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[2]
        : 'gone';
      assert.ok(['gone', 'Z', 'X'].includes(state!), `the hung step's own process is ${state}`);
    }
  }
});

test('a step that is only slow is cut, which is not wrong', async () => {
  const { report } = await fake('slow', 1);
  assert.is(report.status, 'cut');
  assert.equal(
    report.findings.map(({ level }) => level),
    ['note', 'warning'],
  );
  assert.is(verdictOf({ steps: [report], complete: true }), 'partly');
});

test('an interrupt ends the step at once', async () => {
  const controller = new AbortController();
  const started = performance.now();
  const running = runStep(input('hang'), {
    signal: controller.signal,
    onProgress: () => controller.abort(new Error('interrupted')),
    module: fakeStep,
  });
  let thrown: unknown;
  await running.catch(error => {
    thrown = error;
  });
  assert.is((thrown as Error).message, 'interrupted');
  assert.ok(performance.now() - started < 5000);
});

test('a refusal ends the check with ADAPTER_NONE; an adapter that was there before is a wrong result', async () => {
  assert.match(await rejectsWith(() => fake('refuse'), 'ADAPTER_NONE'), /no GPU/);
  const opened = report([]).adapter;
  const gone = await runStep(input('refuse'), { ...fakeOptions, opened });
  assert.is(gone.report.status, 'failed');
  const { level, text } = gone.report.findings.at(-1)!;
  assert.equal([level, text], ['wrong', 'the adapter is gone: there is no GPU to check']);
});

test('the steps: a report after each, details for later ones, skipped once the budget is spent', async () => {
  const inputs: StepInput[] = [];
  const written: GpuCheckReport[] = [];
  const last = await runSteps({
    ...{ steps: ['environment', 'peak', 'kernels', 'stress'], budget: 7, allowSoftware: true },
    ...{ folder: '', command: [], signal: never, onProgress: () => {} },
    onReport: async one => {
      written.push(structuredClone(one));
    },
    run: async one => {
      inputs.push(structuredClone(one));
      // Takes all that there is.
      if (one.step === 'peak') await delay(6500);
      return { adapter: undefined, report: stepReport(one.step, { details: { of: one.step } }) };
    },
  });
  assert.equal(
    inputs.map(({ step }) => step),
    ['environment', 'peak'],
  );
  assert.equal(inputs[1]!.earlier, { environment: { of: 'environment' } });
  assert.equal(
    written.map(({ steps, complete }) => [steps.length, complete]),
    [
      [1, false],
      [2, false],
      [3, false],
      [4, true],
    ],
  );
  assert.equal(
    last.steps.map(({ status }) => status),
    ['done', 'done', 'skipped', 'skipped'],
  );
  assert.match(last.steps[2]!.findings[0]!.text, /budget of 7 s is spent/);
  assert.is(verdictOf(last), 'partly');
});

const folder = temporaryFolder();
const env = { ...ownCache(join(folder.path, 'cache')), TMPDIR: join(folder.path, 'tmp') };
mkdirSync(env.TMPDIR);
test.after(() => folder[Symbol.dispose]());
const outOf = (name: string) => join(folder.path, name);
const read = (name: string): GpuCheckReport =>
  JSON.parse(readFileSync(join(outOf(name), 'gpu-check.json'), 'utf8'));
const check = (name: string, args: readonly string[], more: Record<string, string> = {}) =>
  rmEngine(['gpu-check', '--out', outOf(name), ...args], { env: { ...env, ...more } });

test('on the machine: environment and a few cases; both files, nothing else left', async () => {
  const { status, stdout, stderr } = await check('own', [
    ...['--allow-software', '--steps', 'correctness', 'environment', '--budget', '20'],
  ]);
  assert.is(status, 0, stdout + stderr);
  const result = read('own');
  assert.is(gpuCheckForm(result, ''), undefined);
  assert.equal(
    result.steps.map(({ step, status }) => [step, status]),
    [
      ['environment', 'done'],
      ['correctness', 'done'],
    ],
  );
  const [environment, correctness] = result.steps;
  const { adapters, device, machine } = environment!.details as Record<string, never>;
  const [{ limits, features }] = adapters as [{ limits: Record<string, number>; features: string[] }];
  assert.ok(limits.maxStorageBufferBindingSize! >= 2 ** 27 && features.length > 3);
  assert.is(
    (device as GpuCheckReport).adapter === undefined && typeof (device as { info: object }).info,
    'object',
  );
  assert.ok((machine as { host: { total: number } }).host.total > 0);
  const { small } = correctness!.details.counts as { small: { variants: number; wrong: number } };
  assert.is(small.wrong, 0);
  assert.equal(readdirSync(outOf('own')).sort(), ['gpu-check.json', 'gpu-check.md']);
  assert.equal(readdirSync(env.TMPDIR), [], 'the temporary folder is gone');
  assert.is(readFileSync(join(outOf('own'), 'gpu-check.md'), 'utf8'), stdout);
});

test('a planted wrong kernel is found and reported, with exit code 1', async () => {
  const planted = { RM_ENGINE_WRONG_KERNEL: 'matmul ' };
  const args = ['--allow-software', '--steps', 'correctness', '--budget', '20', '--json'];
  const { status, stdout, stderr } = await check('planted', args, planted);
  assert.is(status, 1, stderr);
  const printed = JSON.parse(stdout) as GpuCheckReport;
  assert.equal(printed, read('planted'));
  const wrong = printed.steps[0]!.findings.filter(({ level }) => level === 'wrong');
  assert.ok(
    wrong.some(({ text }) => /^matmul .*: error [1-9]/.test(text)),
    JSON.stringify(wrong),
  );
});

test('what is in the way: an earlier check needs --force, anything else stays', async () => {
  const again = ['--allow-software', '--steps', 'environment', '--budget', '10'];
  const { status, stderr } = await check('own', again);
  assert.is(status, 1);
  assert.match(stderr, /OUTPUT_EXISTS/);
  assert.is((await check('own', [...again, '--force'])).status, 0);
  assert.equal(
    read('own').steps.map(({ step }) => step),
    ['environment'],
  );
  mkdirSync(outOf('mine'));
  writeFileSync(join(outOf('mine'), 'gpu-check.md'), 'my notes\n');
  assert.is((await check('mine', [...again, '--force'])).status, 1);
  assert.is(readFileSync(join(outOf('mine'), 'gpu-check.md'), 'utf8'), 'my notes\n');
});

test('without any adapter it refuses, and writes nothing', async () => {
  const args = ['--adapter', 'no such card', '--allow-software', '--steps', 'environment'];
  const { status, stderr } = await check('none', args);
  assert.is(status, 1);
  assert.match(stderr, /no adapter's name contains 'no such card' .*ADAPTER_NONE/);
  assert.not(existsSync(outOf('none')));
});

test('without a GPU it refuses, and says how to check all the same', async () => {
  const { status, stderr } = await check('refused', ['--steps', 'environment', '--budget', '10']);
  // On a machine with a GPU there is nothing to refuse.
  if (status === 0) return;
  assert.is(status, 1);
  assert.match(stderr, /ADAPTER_NONE/);
  assert.match(stderr, /--allow-software/);
  assert.not(existsSync(outOf('refused')));
});

test('compare reads two results, and nothing else', async () => {
  const write = (name: string, value: unknown) => {
    writeFileSync(join(folder.path, name), JSON.stringify(value));
    return join(folder.path, name);
  };
  const own = join(outOf('own'), 'gpu-check.json');
  const other = write(
    'other.json',
    report([stepReport('peak', { metrics: [{ name: 'rate', value: 3, unit: 'GB/s', better: 'higher' }] })]),
  );
  const { status, stdout } = await rmEngine(['gpu-check', 'compare', own, other], { env });
  assert.is(status, 0);
  assert.match(stdout, /peak +rate +3\.00 +GB\/s/);
  const json = await rmEngine(['gpu-check', 'compare', own, other, '--json'], { env });
  assert.is(JSON.parse(json.stdout).b.adapter.device, 'Card X');
  for (const wrong of [{}, { ...report([]), format: 'rm-engine gpu-check 9' }, [1]]) {
    const refused = await rmEngine(['gpu-check', 'compare', own, write('wrong.json', wrong)], { env });
    assert.is(refused.status, 1);
    assert.match(refused.stderr, /wrong\.json.*DATA_INVALID|DATA_INVALID/s);
  }
});

test.run();
