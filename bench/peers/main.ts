/** `npm run bench -- peers`: rm-engine beside other engines on the same adapter. README.md in this folder says how. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { seededRandom } from '../../engine/random.js';
import { Child } from './child.js';
import { languageModel } from './languageModel.js';
import { type Comparison, type Entrant, measure } from './measure.js';
import { compareReplaceme } from './replaceme.js';
import { formatReport, type PeersReport } from './report.js';
import { type MatmulTask, type MlpTask, nameOf, type Task } from './workloads.js';

const usage = `Usage: npm run bench -- peers [options]

  --json               one JSON object on stdout instead of tables
  --only <parts>       of matmul,mlp,prefill,decode,replaceme (default: all)
  --samples <count>    timed samples of every program, 7 or more (default: 7)
  --model <folder>     a SmolLM2-135M folder, for prefill and decode (default: RM_SMOLLM2)
  --gguf <file>        the same model for llama.cpp (default: a .gguf file in that folder)
  --prompt <count>     tokens of the prompt that llama.cpp gets too (default: 32)
  --long <count>       tokens of a second prompt, without llama.cpp; 0 for none (default: 512)
  --steps <count>      tokens of a decode sample (default: 8)
  --replaceme <folder> a checkout of mts-ai/ReplaceMe to run beside prune; needs --model and --calib
  --calib <file>       .jsonl with a field "text": the texts for both
  --layers <count>     layers to remove (default: 7)

Python with torch (and transformers for language models) is found through RM_PYTHON or as python3. The adapter is
rm-engine's own choice; RM_ENGINE_ADAPTER names another.`;

const allParts = ['matmul', 'mlp', 'prefill', 'decode', 'replaceme'];

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
/** The peers' own folder: compiled code lies in dist/, packages and programs beside the sources. */
const sources = join(root, 'bench/peers');
const program = (name: string) => join(sources, 'programs', name);
const python = process.env.RM_PYTHON || 'python3';

const say = (line: string) => process.stderr.write(`${line}\n`);

/** Runs `work` with the programs started; they are ended whatever happens. */
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

async function run(options: ReturnType<typeof readArguments>): Promise<PeersReport> {
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
    prefill: null,
    decode: null,
    skipped: {},
  };
  const start =
    (name: string, role: Entrant['role'], command: string, ...args: string[]) =>
    (): Entrant => ({ name, role, child: new Child(command, args) });
  const modelArgument = folder === undefined ? [] : [folder];
  const ours = start('rm-engine', 'ours', process.execPath, join(here, 'ours.js'), ...modelArgument);
  const torch = start('PyTorch CPU', 'outside', python, program('pytorch.py'), ...modelArgument);

  const compare = async (
    what: string,
    task: Task,
    entrants: readonly Entrant[],
    fixed: { warmups: number; repeats?: number },
  ): Promise<Comparison> => {
    say(`${what} ...`);
    return await measure(task, entrants, {
      samples,
      ...fixed,
      onFailure: ({ name }, reason) => {
        report.skipped[`${name}, ${what}`] = reason;
        say(`  ${name}: ${reason}`);
      },
      onReady: ({ name, role }, { version, adapter }) => {
        if (role === 'ours' && typeof adapter === 'object') report.adapter = adapter;
        const device = typeof adapter === 'object' ? adapter.description : (adapter ?? 'does not tell');
        report.programs[name] ??= { version, adapter: device };
      },
    });
  };

  const kernels = parts.some(part => part === 'matmul' || part === 'mlp');
  if (kernels) {
    const engines = [
      start('onnxruntime', 'peer', process.execPath, program('ort.mjs')),
      start('tfjs', 'peer', process.execPath, program('tfjs.mjs')),
      start('jax-js', 'peer', process.execPath, program('jaxjs.mjs')),
    ];
    await withEntrants([ours, ...engines, torch], async entrants => {
      const warm = { warmups: 3 };
      for (const task of parts.includes('matmul') ? matmuls : []) {
        report.matmul[nameOf(task)] = await compare(`matmul ${nameOf(task)}`, task, entrants, warm);
      }
      for (const task of parts.includes('mlp') ? mlps : []) {
        report.mlp[nameOf(task)] = await compare(`mlp ${nameOf(task)}`, task, entrants, warm);
      }
    });
  }

  if (missing !== undefined) {
    for (const part of language) report.skipped[part] = missing;
  } else if (language.length > 0) {
    const llama =
      gguf === undefined
        ? []
        : [start('llama.cpp Vulkan', 'peer', process.execPath, program('llama.mjs'), gguf)];
    if (gguf === undefined)
      report.skipped['llama.cpp Vulkan'] = 'no --gguf given, and none in the model folder';
    const once = { warmups: 1, repeats: 1 };
    await withEntrants([ours, ...llama, torch], async entrants => {
      const random = seededRandom(1);
      // Any text: speed does not depend on it.
      const ids = Array.from(
        { length: Math.max(options.prompt, options.long) },
        () => 1000 + Math.floor(random() * 20_000),
      );
      const prompt = ids.slice(0, options.prompt);
      if (parts.includes('prefill')) {
        const same = await compare(
          `prefill of ${prompt.length} tokens`,
          { task: 'prefill', ids: prompt },
          entrants,
          once,
        );
        report.prefill = { tokens: prompt.length, ...same };
        if (options.long > 0) {
          // Waiting for llama.cpp is no option here.
          const long = await compare(
            `prefill of ${options.long} tokens`,
            { task: 'prefill', ids: ids.slice(0, options.long) },
            entrants.filter(({ role }) => role !== 'peer'),
            once,
          );
          report.prefill.long = { tokens: options.long, ...long };
        }
      }
      if (parts.includes('decode')) {
        const task: Task = { task: 'decode', ids: prompt, tokens: options.steps };
        const steps = await compare(`decode of ${options.steps} tokens`, task, entrants, once);
        report.decode = { prompt: prompt.length, tokens: options.steps, ...steps };
      }
    });
  }

  if (options.replaceme !== undefined && parts.includes('replaceme')) {
    const { adapter, comparison } = await compareReplaceme({
      python,
      runner: program('replaceme.py'),
      cli: join(here, '../../cli/main.js'),
      checkout: options.replaceme,
      model: options.model!,
      calib: options.calib!,
      layers: options.layers,
      say,
    });
    report.adapter ??= adapter;
    report.replaceme = comparison;
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
    const report = await run(options);
    process.stdout.write(options.json ? `${JSON.stringify(report, null, 2)}\n` : formatReport(report));
  }
} catch (error) {
  say(`peers: ${(error as Error).message}`);
  process.exitCode = 1;
}
