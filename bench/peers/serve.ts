/**
 * The loop of a measured program. It reads one JSON object per line from stdin, {"prepare": task} or {"sample": repeats},
 * and answers each with a line on stdout, marked because native libraries write there too.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { AdapterInfo } from '../../engine/adapterInfo.js';
import { enableBundledDriver, hasVulkan } from '../../engine/softwareDriver.js';
import { checkResult, type Task } from './workloads.js';

export const MARK = '@peers ';

export interface Prepared {
  /** Milliseconds of `repeats` runs: submits one after the other, then waits once. */
  sample(repeats: number): Promise<number>;
  /** The result of a run, to be checked. */
  result?(): Promise<ArrayLike<number>>;
  dispose?(): unknown;
}

export interface Program {
  readonly version: string;
  /** Undefined if the program does not name it. */
  readonly adapter?: string | AdapterInfo | undefined;
  readonly tasks: { readonly [T in Task['task']]?: (task: Extract<Task, { task: T }>) => Promise<Prepared> };
}

export interface Prepare {
  readonly prepare: Task;
  readonly warmups: number;
  /** Default: as many as make a sample of about `SAMPLE_MS`. */
  readonly repeats?: number;
}

const SAMPLE_MS = 300;
const MOST_REPEATS = 64;

/** At least two, so that submitting overlaps with work as in real use. */
export const repeatsFor = (milliseconds: number): number =>
  Math.max(2, Math.min(MOST_REPEATS, Math.round(SAMPLE_MS / milliseconds)));

export { wallTime as timed } from '../measure.js';

/**
 * Traces of the device in a process that does not name it (Linux): the worker threads of lavapipe, a GPU's device file.
 * Loaded libraries prove nothing: the Vulkan loader opens every driver.
 */
function deviceTraces(): string | undefined {
  if (process.platform !== 'linux') return undefined;
  const list = (folder: string, read: (path: string) => string) =>
    readdirSync(folder).flatMap(name => {
      try {
        return [read(`${folder}/${name}`).trim()];
      } catch {
        // Threads and files come and go.
        return [];
      }
    });
  const threads = list('/proc/self/task', path => readFileSync(`${path}/comm`, 'utf8'));
  if (threads.some(name => name.startsWith('llvmpipe-'))) return 'llvmpipe threads';
  const files = list('/proc/self/fd', path => readlinkSync(path));
  const gpus = files.filter(path => /^\/dev\/(nvidia\d+|dri\/renderD\d+)$/.test(path));
  if (gpus.length > 0) return [...new Set(gpus)].join(', ');
  return readFileSync('/proc/self/maps', 'utf8').includes('libvk_swiftshader') ? 'SwiftShader' : undefined;
}

type Request = Prepare | { readonly sample: number };

/** Answers requests until stdin ends. */
export async function serve(start: () => Promise<Program>): Promise<void> {
  // The same choice as engine/adapter.ts, so that all programs see the same driver.
  const adapterName = process.env.RM_ENGINE_ADAPTER ?? '';
  if (/swiftshader/i.test(adapterName) || (process.platform === 'linux' && !hasVulkan()))
    enableBundledDriver();
  let program: Program | undefined;
  let prepared: Prepared | undefined;

  const answer = async (request: Request): Promise<object> => {
    if ('sample' in request) {
      if (!prepared) throw new Error('nothing is prepared');
      return { milliseconds: await prepared.sample(request.sample) };
    }
    program ??= await start();
    await prepared?.dispose?.();
    prepared = undefined;
    const task = request.prepare;
    const prepare = program.tasks[task.task] as ((task: Task) => Promise<Prepared>) | undefined;
    if (!prepare) throw new Error(`has no ${task.task}`);
    prepared = await prepare(task);
    if (prepared.result && task.task !== 'prefill' && task.task !== 'decode') {
      checkResult(task, await prepared.result());
    }
    let once = 0;
    for (let i = 0; i < request.warmups; i++) once = await prepared.sample(1);
    const { version, adapter } = program;
    const repeats = request.repeats ?? repeatsFor(once);
    return { version, adapter: adapter ?? deviceTraces(), repeats };
  };

  for await (const line of createInterface({ input: process.stdin })) {
    if (!line.trim()) continue;
    const reply = await answer(JSON.parse(line) as Request).catch((error: Error) => ({
      error: error.message,
    }));
    process.stdout.write(`\n${MARK}${JSON.stringify(reply)}\n`);
  }
  // Some libraries would keep the process alive.
  process.exit(0);
}
