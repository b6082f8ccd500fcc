import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { listAdapters } from '../../engine/adapter.js';
import { isSoftware } from '../../engine/adapterInfo.js';
import { ensure, RmError } from '../../engine/errors.js';
import type { Progress } from '../../engine/progress.js';
import { withFolderBeside } from '../../model/files/outputFolder.js';
import {
  type AccumulatedStatistics,
  accumulateRounds,
  checkAccumulateRequest,
} from '../../replaceme/accumulate.js';
import { calibrationSizes } from '../../replaceme/calibration/sizes.js';
import { recipeSettings } from '../../replaceme/options/pruneSettings.js';
import { pathArgument } from '../../replaceme/report/text/shellWord.js';
import { mergeStatistics } from '../../replaceme/statistics/mergeStatistics.js';
import { shardName } from '../../replaceme/statistics/shard.js';
import { withDevice } from '../device/gpu.js';
import { optionWords } from '../options/settings.js';
import type { Run } from '../terminal/command.js';
import type { Terminal } from '../terminal/terminal.js';
import { type PruneFlags, pruneOptions } from './options.js';

/** The word that stands for all GPUs. */
const ALL = 'all';

/**
 * The adapters that `--devices` names, one for each process: "all", or names as for --adapter, with commas between.
 * Software is among all of them only where there is no GPU.
 *
 * @throws RmError INVALID_ARGUMENT where a GPU cannot be told from another: WebGPU chooses adapters by name alone.
 */
export async function devicesOf(wanted: string, list = listAdapters): Promise<string[]> {
  const names = wanted
    .split(',')
    .map(name => name.trim())
    .filter(name => name !== '');
  ensure(names.length > 0, '--devices names no adapter', 'Give all, or names such as RTX,Arc.');
  const there = await list();
  const hardware = there.filter(name => !isSoftware(name));
  const chosen = names.length === 1 && names[0] === ALL ? (hardware.length > 0 ? hardware : there) : names;
  const opened = chosen.map(name =>
    there.findIndex(other => other.toLowerCase().includes(name.toLowerCase())),
  );
  const twice = opened.find((at, i) => at >= 0 && !isSoftware(there[at]!) && opened.indexOf(at) < i);
  if (twice !== undefined) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `several processes would open the same GPU '${there[twice]}': WebGPU chooses by name, and takes the first of several alike`,
      'Let each process see one of them, in containers (NVIDIA_VISIBLE_DEVICES) or by Slurm (rm-engine slurm), with rm-engine stats gather --shard.',
    );
  }
  return chosen;
}

/** What the processes are to sum, and where. */
interface DevicePlan {
  readonly devices: readonly string[];
  readonly model: string;
  /** Options of prune, as words. */
  readonly options: readonly string[];
  /** The shards' files go here. */
  readonly folder: string;
  /** The merged sums of the round before. */
  readonly statistics?: string;
  readonly round: number;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
  /** Is told how many have finished. */
  readonly onFinished: (done: number) => void;
}

/**
 * One round of shards, each summed by a process on a device of its own.
 *
 * @throws RmError as the first process that fails says; the others are ended.
 */
async function accumulateOnDevices(plan: DevicePlan): Promise<AccumulatedStatistics[]> {
  const stop = new AbortController();
  const signal = AbortSignal.any([plan.signal, stop.signal]);
  let finished = 0;
  const work = plan.devices.map(async (device, at) => {
    const file = join(plan.folder, `round-${plan.round}-shard-${at + 1}.safetensors`);
    const words = [
      ...['stats', 'gather', pathArgument(plan.model), file],
      ...['--shard', shardName({ index: at + 1, of: plan.devices.length })],
      ...[...plan.options, '--adapter', device, '--json'],
      ...(plan.statistics === undefined ? [] : ['--statistics', plan.statistics]),
    ];
    const gathered = await accumulateInProcess(words, `${device} (${at + 1})`, plan.terminal, signal);
    plan.onFinished(++finished);
    return gathered;
  });
  try {
    return await Promise.all(work);
  } catch (error) {
    stop.abort();
    // Nothing of them may be left when the folder goes.
    await Promise.allSettled(work);
    throw error;
  }
}

/** What all rounds together need. */
interface DevicesRequest extends Omit<DevicePlan, 'round' | 'statistics' | 'onFinished'> {
  /** At the most. */
  readonly rounds: number;
  readonly onProgress: Progress;
}

/** Sums over all calibration tokens, divided among the devices, as rounds of shards; the path of the merged file. */
export async function statisticsOfDevices(request: DevicesRequest): Promise<string> {
  const { devices, folder, rounds, onProgress, signal } = request;
  let statistics: string | undefined;
  for (let round = 1; ; round++) {
    const phase = `round ${round}`;
    const onFinished = (done: number) => onProgress({ phase, done, total: devices.length, unit: 'devices' });
    onFinished(0);
    const gathered = await accumulateOnDevices({
      ...request,
      ...(statistics && { statistics }),
      round,
      onFinished,
    });
    const merged = join(folder, `round-${round}.safetensors`);
    const files = gathered.map(({ path }) => path);
    await mergeStatistics(merged, [...(statistics ? [statistics] : []), ...files], { signal });
    statistics = merged;
    if (round >= rounds || gathered.every(({ complete }) => complete)) return merged;
  }
}

/** Lets the GPUs of this machine sum, and `finish` with the first of them and the path of the merged sums. */
export async function onDevices<T>(
  run: Run<object>,
  model: string,
  out: string,
  { devices: names, memoryLimit, ...flags }: PruneFlags & { devices: string },
  finish: (adapter: string, statistics: string) => Promise<T>,
): Promise<T> {
  const { terminal, signal, progress } = run;
  const devices = await devicesOf(names);
  const options = pruneOptions(flags);
  const request = await checkAccumulateRequest(model, {
    ...options,
    shard: { index: 1, of: devices.length },
  });
  // Defaults differ between devices, the shards' batches must not.
  const first = { ...run, deviceOptions: { adapter: devices[0]!, memoryLimit } };
  const sizes = await withDevice(first, async device => calibrationSizes(options, device, request.arch));
  const limit = memoryLimit === undefined ? [] : ['--memory-limit', `${memoryLimit}`];
  return await withFolderBeside(out, async folder => {
    const statistics = await statisticsOfDevices({
      ...{
        devices,
        model,
        folder,
        terminal,
        signal,
        onProgress: progress,
        rounds: accumulateRounds(request),
      },
      options: [...optionWords(recipeSettings, { ...flags, ...sizes }), ...limit],
    });
    return await finish(devices[0]!, statistics);
  });
}

const program = fileURLToPath(new URL('../main.js', import.meta.url));

/** Runs `rm-engine WORDS`; what it tells is passed on behind `name`. */
async function accumulateInProcess(
  words: readonly string[],
  name: string,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<AccumulatedStatistics> {
  const child = spawn(process.execPath, [program, ...words], {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Escape sequences in its lines would be shown as such.
    env: { ...process.env, FORCE_COLOR: '0' },
  });
  const end = () => child.kill('SIGTERM');
  signal.addEventListener('abort', end);
  let answer = '';
  child.stdout.setEncoding('utf8').on('data', text => {
    answer += text;
  });
  const lines = createInterface({ input: child.stderr });
  lines.on('line', line => terminal.note(`${name}: ${line}`));
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  }).finally(() => signal.removeEventListener('abort', end));
  signal.throwIfAborted();
  const { error, ...gathered } = answerOf(answer);
  if (status === 0 && !error) return gathered as unknown as AccumulatedStatistics;
  throw new RmError(
    error?.code ?? 'DEVICE_LOST',
    `${name}: ${error?.message ?? `its process ended with ${status ?? 'a signal'}`}`,
    error?.fix ?? 'Look at what it has said above, then run again, perhaps without this device.',
  );
}

function answerOf(text: string): { error?: Pick<RmError, 'code' | 'message' | 'fix'> } {
  try {
    return JSON.parse(text);
  } catch {
    // A process that died said nothing, or half of it.
    return {};
  }
}
