/** `npm run bench -- peers`: rm-engine beside other engines on the same adapter. README.md in this folder says how. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { seededRandom } from '../../engine/random.js';
import { Child } from './child.js';
import { languageModel } from './languageModel.js';
import { type Comparison, type Entrant, measure } from './measure.js';
import { type OperationName, operations } from './operations.js';
import { compareReplaceme } from './replaceme.js';
import { formatReport, type PeersReport } from './report.js';
import { type MatmulTask, type MlpTask, nameOf, type Task } from './workloads.js';

const usage = `Usage: npm run bench -- peers [options]

  --json               one JSON object on stdout instead of tables
  --only <parts>       of matmul,mlp,operations,prefill,decode,replaceme (default: all)
  --samples <count>    timed samples of every program, 7 or more (default: 7)
  --model <folder>     a SmolLM2-135M folder, for prefill and decode (default: RM_SMOLLM2)
  --gguf <file>        the same model for llama.cpp (default: a .gguf file in that folder)
  --prompt <count>     tokens of the prompt for all programs (default: 32)
  --long <count>       tokens of a second prompt for all but llama.cpp; 0 for none (default: 512)
  --steps <count>      tokens of a decode sample (default: 8)
  --replaceme <folder> a checkout of mts-ai/ReplaceMe to run beside prune; needs --model and --calib
  --calib <file>       .jsonl with a field "text": the texts for both
  --layers <count>     layers to remove (default: 7)

RM_PYTHON (default: python3) names a Python with torch, and transformers for language models. rm-engine chooses the
adapter; RM_ENGINE_ADAPTER names another.`;

const allParts = ['matmul', 'mlp', 'operations', 'prefill', 'decode', 'replaceme'];

const matmuls: readonly MatmulTask[] = [
  { task: 'matmul', m: 512, n: 512, k: 512 },
  { task: 'matmul', m: 1024, n: 1024, k: 1024 },
  { task: 'matmul', m: 256, n: 1536, k: 576 },
];
/** SmolLM2-135M's */
const mlps: readonly MlpTask[] = [{ task: 'mlp', tokens: 256, hidden: 576, intermediate: 1536 }];

function readArguments() {
  const { values } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      only: { type: 'string', default: allParts.join() },
      samples: { type: 'string', default: '7' },
      model: { type: 'string' },
      gguf: { type: 'string' },
      prompt: { type: 'string', default: '32' },
      long: { type: 'string', default: '512' },
      steps: { type: 'string', default: '8' },
      replaceme: { type: 'string' },
      calib: { type: 'string' },
      layers: { type: 'string', default: '7' },
    },
  });
  const count = (name: 'samples' | 'prompt' | 'long' | 'steps' | 'layers', least: number) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < least)
      throw new Error(`--${name} takes a number of ${least} or more`);
    return value;
  };
  for (const name of ['model', 'gguf', 'replaceme', 'calib'] as const) {
    const path = values[name];
    if (path !== undefined && !existsSync(path)) throw new Error(`--${name}: there is no ${path}`);
  }
  if (values.replaceme !== undefined && (values.model === undefined || values.calib === undefined)) {
    throw new Error('--replaceme needs --model and --calib');
  }
  const parts = values.only.split(',');
  const unknown = parts.find(part => !allParts.includes(part));
  if (unknown !== undefined) throw new Error(`--only does not know '${unknown}'`);
  return {
    ...values,
    parts,
    samples: count('samples', 7),
    prompt: count('prompt', 1),
    long: count('long', 0),
    steps: count('steps', 1),
    layers: count('layers', 1),
  };
}

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '../../..');
/** The source folder: it holds the peers' packages and programs; compiled code lies in dist/. */
const sources = join(root, 'bench/peers');
const program = (name: string) => join(sources, 'programs', name);
const python = process.env.RM_PYTHON || 'python3';

const say = (line: string) => process.stderr.write(`${line}\n`);

/** Starts the programs, runs `work` with them and ends them, also after a failure. */
async function withEntrants<T>(
  starts: readonly (() => Entrant)[],
  work: (entrants: readonly Entrant[]) => Promise<T>,
): Promise<T> {
  const entrants = starts.map(start => start());
  try {
    return await work(entrants);
  } finally {
    await Promise.all(entrants.map(({ child }) => child.close()));
  }
}

/** A run of the peers: what it measures, and the report that it fills. */
interface PeersRun {
  readonly options: ReturnType<typeof readArguments>;
  readonly report: PeersReport;
  /** SmolLM2-135M's folder, where prefill or decode is measured. */
  readonly folder?: string | undefined;
  readonly gguf?: string | undefined;
}

const start =
  (name: string, role: Entrant['role'], command: string, ...args: string[]) =>
  (): Entrant => ({ name, role, child: new Child(command, args) });

/** rm-engine and PyTorch, which take part in every task. */
const ours = ({ folder }: PeersRun) =>
  start('rm-engine', 'ours', process.execPath, join(here, 'ours.js'), ...(folder ? [folder] : []));
const torch = ({ folder }: PeersRun) =>
  start('PyTorch CPU', 'outside', python, program('pytorch.py'), ...(folder ? [folder] : []));

/** Measures one task and notes in the report who took part and who failed. */
function compare(
  { options, report }: PeersRun,
  title: string,
  task: Task,
  entrants: readonly Entrant[],
  counts: { warmups: number; repeats?: number },
): Promise<Comparison> {
  say(`${title} ...`);
  return measure(task, entrants, {
    samples: options.samples,
    ...counts,
    onFailure: ({ name }, reason) => {
      report.skipped[`${name}, ${title}`] = reason;
      say(`  ${name}: ${reason}`);
    },
    onReady: ({ name, role }, { version, adapter }) => {
      if (role === 'ours' && typeof adapter === 'object') report.adapter = adapter;
      const device = typeof adapter === 'object' ? adapter.description : (adapter ?? 'does not tell');
      report.programs[name] ??= { version, adapter: device };
    },
  });
}

/** matmul, mlp and operations, against the other WebGPU engines. */
async function compareKernels(run: PeersRun): Promise<void> {
  const { parts } = run.options;
  const engines = [
    start('onnxruntime', 'peer', process.execPath, program('ort.mjs')),
    start('tfjs', 'peer', process.execPath, program('tfjs.mjs')),
    start('jax-js', 'peer', process.execPath, program('jaxjs.mjs')),
  ];
  await withEntrants([ours(run), ...engines, torch(run)], async entrants => {
    const warm = { warmups: 3 };
    for (const task of parts.includes('matmul') ? matmuls : []) {
      run.report.matmul[nameOf(task)] = await compare(run, `matmul ${nameOf(task)}`, task, entrants, warm);
    }
    for (const task of parts.includes('mlp') ? mlps : []) {
      run.report.mlp[nameOf(task)] = await compare(run, `mlp ${nameOf(task)}`, task, entrants, warm);
    }
    const engines = entrants.filter(({ role }) => role !== 'outside');
    for (const operation of parts.includes('operations') ? Object.keys(operations) : []) {
      const task = { task: 'operation', operation: operation as OperationName } as const;
      run.report.operations[nameOf(task)] = await compare(run, nameOf(task), task, engines, warm);
    }
  });
}

/** prefill and decode, against llama.cpp. */
async function compareLanguageModels(run: PeersRun): Promise<void> {
  const { options, report, gguf } = run;
  const llama =
    gguf === undefined
      ? []
      : [start('llama.cpp Vulkan', 'peer', process.execPath, program('llama.mjs'), gguf)];
  if (gguf === undefined)
    report.skipped['llama.cpp Vulkan'] = 'no --gguf given, and none in the model folder';
  const once = { warmups: 1, repeats: 1 };
  await withEntrants([ours(run), ...llama, torch(run)], async entrants => {
    const random = seededRandom(1);
    // Any text: speed does not depend on it.
    const ids = Array.from(
      { length: Math.max(options.prompt, options.long) },
      () => 1000 + Math.floor(random() * 20_000),
    );
    const prefill = async (tokens: number, programs: readonly Entrant[]) => {
      const task: Task = { task: 'prefill', ids: ids.slice(0, tokens) };
      return { tokens, ...(await compare(run, `prefill of ${tokens} tokens`, task, programs, once)) };
    };
    if (options.parts.includes('prefill')) {
      report.prefill = await prefill(options.prompt, entrants);
      if (options.long > 0) {
        // llama.cpp would take minutes here.
        const fast = entrants.filter(({ role }) => role !== 'peer');
        report.prefill.long = await prefill(options.long, fast);
      }
    }
    if (options.parts.includes('decode')) {
      const prompt = ids.slice(0, options.prompt);
      const task: Task = { task: 'decode', ids: prompt, tokens: options.steps };
      const rates = await compare(run, `decode of ${options.steps} tokens`, task, entrants, once);
      report.decode = { prompt: prompt.length, tokens: options.steps, ...rates };
    }
  });
}

/** A whole prune beside the original program. */
async function compareWithOriginal({ options, report }: PeersRun, checkout: string): Promise<void> {
  const { adapter, comparison } = await compareReplaceme({
    ...{ python, runner: program('replaceme.py'), cli: join(here, '../../cli/main.js'), checkout },
    ...{ model: options.model!, calib: options.calib!, layers: options.layers, say },
  });
  report.adapter ??= adapter;
  report.replaceme = comparison;
}

async function measurePeers(options: ReturnType<typeof readArguments>): Promise<PeersReport> {
  const { parts, samples } = options;
  const language = parts.filter(part => part === 'prefill' || part === 'decode');
  const { folder, gguf, missing } = language.length > 0 ? languageModel(root, python, options, say) : {};
  const report: PeersReport = {
    adapter: null,
    date: new Date().toISOString().slice(0, 10),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    samples,
    programs: {},
    matmul: {},
    mlp: {},
    operations: {},
    prefill: null,
    decode: null,
    skipped: {},
  };
  const run: PeersRun = { options, report, folder, gguf };
  if (parts.some(part => ['matmul', 'mlp', 'operations'].includes(part))) await compareKernels(run);
  if (missing !== undefined) {
    for (const part of language) report.skipped[part] = missing;
  } else if (language.length > 0) await compareLanguageModels(run);
  if (options.replaceme !== undefined && parts.includes('replaceme')) {
    await compareWithOriginal(run, options.replaceme);
  }
  return report;
}

/** A wrong command line ends with exit code 2, as rm-engine's own does. */
function argumentsOrExit() {
  try {
    return readArguments();
  } catch (error) {
    say(`peers: ${(error as Error).message}\nsee: npm run bench -- peers --help`);
    process.exit(2);
  }
}

const options = argumentsOrExit();
try {
  if (options.help) process.stdout.write(`${usage}\n`);
  else {
    const report = await measurePeers(options);
    process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
  }
} catch (error) {
  say(`peers: ${(error as Error).message}`);
  process.exitCode = 1;
}
