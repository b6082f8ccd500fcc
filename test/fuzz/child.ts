// The process that tries inputs of a target, started by childProcess.ts. Before each input it writes the input's index and its
// counts into a file, and each new fault into another: so its parent knows them, and the culprit, when this process dies or hangs.
//   node child.js PROGRESS_FILE FAULTS_FILE FOLDER MEMORY
import { appendFileSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { errorCodes, RmError } from '../../engine/errors.js';
import type { Job, Report } from './childProcess.js';
import { Random } from './random.js';
import { type Fault, inputAt, isFault, loadTarget, type Outcome } from './target.js';

const [progressFile, faultsFile, folder, memory] = process.argv.slice(2) as [string, string, string, string];
const progress = openSync(progressFile, 'w');
const announce = (...numbers: number[]) => writeSync(progress, numbers.join(' ').padEnd(40), 0);

/** What went wrong outside of the promise that was awaited. */
let stray: unknown;
process.on('uncaughtException', error => (stray = error ?? new Error('thrown: nothing')));
process.on('unhandledRejection', error => (stray = error ?? new Error('rejected with nothing')));
process.on('disconnect', () => process.exit());

const prototypes = [Object.prototype, Array.prototype, Function.prototype, String.prototype];
const prototypeNames = () => prototypes.map(prototype => Reflect.ownKeys(prototype).length).join();
const cleanNames = prototypeNames();

function faultOf(error: unknown): Fault {
  const {
    name,
    message,
    stack = '',
  } = error instanceof Error ? error : new Error(`no error: ${String(error)}`);
  // The place tells faults apart, except where the stack overflowed somewhere.
  const frames = stack
    .split('\n')
    .filter(line => /^\s+at .*[\\/]/.test(line) && !/node:|fuzz.child/.test(line));
  const place = /call stack/.test(message) ? '' : (frames[0] ?? '').trim().replace(/:\d+:\d+\)?$/, '');
  const shown = `${name}: ${message.slice(0, 300)}`;
  return {
    kind: 'error',
    key: `${name} ${place || message.replaceAll(/\d+|".*"/g, '').slice(0, 60)}`,
    message: [shown, ...frames.slice(0, 6)].join('\n'),
  };
}

const isProperError = (error: unknown): boolean =>
  error instanceof RmError &&
  Object.hasOwn(errorCodes, error.code) &&
  error.message !== '' &&
  error.fix !== '';

async function attempt(read: (input: Uint8Array) => Promise<unknown>, input: Uint8Array): Promise<Outcome> {
  let outcome: Outcome = 'read';
  try {
    await read(input);
  } catch (error) {
    outcome = isProperError(error) ? 'refused' : faultOf(error);
  }
  await setImmediate();
  const strayed = stray;
  stray = undefined;
  if (strayed !== undefined && !isFault(outcome)) outcome = faultOf(strayed);
  if (prototypeNames() !== cleanNames) throw new Error('a prototype was changed');
  // Largest so far, in KiB: what one input took, as long as none before it took too much.
  const peak = process.resourceUsage().maxRSS * 1024;
  if (peak > Number(memory)) {
    return { kind: 'memory', key: 'memory', message: `the process took ${Math.round(peak / 2 ** 20)} MiB` };
  }
  return outcome;
}

let opened = 0;
async function open(module: string) {
  const target = await loadTarget(module);
  const own = (name: string) => {
    const path = join(folder, `${name}-${opened++}`);
    mkdirSync(path, { recursive: true });
    return path;
  };
  const read = await target.open(own('work'));
  return { target, read, corpus: () => target.corpus(own('corpus')) };
}

const targets = new Map<string, ReturnType<typeof open>>();

async function perform(job: Job): Promise<Report> {
  const { module } = job;
  if ('from' in job) announce(job.from);
  const entry = targets.get(module) ?? open(module);
  targets.set(module, entry);
  const { target, read, corpus } = await entry;
  if ('input' in job) return { outcome: await attempt(read, job.input) };
  const originals = await corpus();
  const counts = { read: 0, refused: 0 };
  const known = new Set<string>();
  const started = performance.now();
  const passed = () => performance.now() - started;
  let index = job.from;
  for (; passed() < job.milliseconds; index++) {
    announce(index, counts.read, counts.refused);
    const outcome = await attempt(read, inputAt(target, originals, new Random(job.seed, index)));
    if (!isFault(outcome)) {
      counts[outcome]++;
      continue;
    }
    if (!known.has(outcome.key)) appendFileSync(faultsFile, `${JSON.stringify({ index, fault: outcome })}\n`);
    known.add(outcome.key);
    // The peak of this process says nothing of the next inputs.
    if (outcome.kind === 'memory') {
      index++;
      break;
    }
  }
  return { ...counts, next: index, milliseconds: passed() };
}

process.on('message', (job: Job) => {
  perform(job).then(
    report => process.send!(report),
    error => {
      console.error(error);
      process.exit(3);
    },
  );
});
