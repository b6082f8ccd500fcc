import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import {
  describeAdapter,
  describeLimit,
  formatBytes,
  hostMemory,
  listAdapters,
  reasonOf,
  thisHost,
  vulkanDriverFiles,
} from '../../engine/index.js';
import { left } from '../measure.js';
import type { StepRun } from './stepRun.js';

const PATIENCE_MS = 10_000;

/** What a program prints, or undefined where there is none or it fails. */
const printed = (program: string, ...args: string[]): Promise<string | undefined> =>
  new Promise(resolve => {
    execFile(program, args, { timeout: PATIENCE_MS, windowsHide: true }, (error, output) =>
      resolve(error ? undefined : output.trim()),
    );
  });

/** The first line of a file of the kernel, or undefined. */
function firstLine(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').split('\n')[0]!.trim();
  } catch {
    return undefined;
  }
}

/** Device files of GPUs. */
function gpuFiles(): string[] {
  const listed = (folder: string, pattern: RegExp) =>
    existsSync(folder)
      ? readdirSync(folder)
          .filter(name => pattern.test(name))
          .map(name => `${folder}/${name}`)
      : [];
  return [...listed('/dev', /^(nvidia\d+|kfd|dxg)$/), ...listed('/dev/dri', /^(card|renderD)\d+$/)];
}

/** The name of the GPU, its driver, the memory that is free, all adapters, and what each can do. */
export async function environmentStep(run: StepRun): Promise<void> {
  const nvidia = await printed(
    'nvidia-smi',
    '--query-gpu=name,driver_version,memory.total,memory.free,mig.mode.current,clocks.max.sm,clocks.max.memory,power.limit',
    '--format=csv,noheader',
  );
  const migs = ((await printed('nvidia-smi', '-L')) ?? '')
    .split('\n')
    .filter(line => /MIG/.test(line))
    .map(line => line.replace(/\(UUID.*?\)/, '').trim());
  const machine = {
    host: await hostMemory(),
    cpus: cpus().length,
    gpuFiles: gpuFiles(),
    vulkanDriverFiles: process.platform === 'linux' ? vulkanDriverFiles(thisHost) : [],
    ...(nvidia && { nvidia: nvidia.split('\n') }),
    ...(migs.length > 0 && { migs }),
    nvidiaKernelDriver: firstLine('/proc/driver/nvidia/version') ?? null,
  };
  run.detail('machine', machine);
  const names = await listAdapters();
  const adapters: unknown[] = [];
  for (const name of names) {
    try {
      adapters.push({ name, ...(await describeAdapter(name)) });
    } catch (error) {
      run.warn(`the adapter ${name} cannot be opened: ${reasonOf(error)}`);
    }
  }
  run.detail('adapters', adapters);
  const opened = new Map<string, string>();
  const succeeded = await run.piece('open the device', async device => {
    const { info, features, limits } = device;
    const card = await device.readCard();
    run.detail('device', { info, features, limits, card: card ?? null, memoryLimit: device.memory.limit });
    if (card?.free !== undefined) run.metric('free device memory', card.free / 1e9, 'GB');
    opened.set('adapter', [info.device, info.description].filter(Boolean).join(', '));
    opened.set('vendor, architecture', [info.vendor, info.architecture].filter(Boolean).join(', '));
    opened.set(
      'memory',
      card ? describeLimit(card) : `the host's, at most ${formatBytes(device.memory.limit)}`,
    );
    opened.set(
      'features',
      Object.entries(features)
        .map(([name, has]) => `${name} ${has ? 'yes' : 'no'}`)
        .join(', '),
    );
    opened.set('subgroups', `${info.subgroupMinSize} to ${info.subgroupMaxSize}`);
    const configs = info.subgroupMatrixConfigs.map(c => `${c.component} ${c.m}x${c.n}x${c.k} to ${c.result}`);
    opened.set('matrix units', configs.join(', ') || 'none');
    opened.set(
      'buffers, bindings',
      `${formatBytes(limits.maxBufferSize)}, ${formatBytes(limits.maxStorageBufferBindingSize)}`,
    );
  });
  if (!succeeded) return;
  opened.set('all adapters', names.join('; '));
  if (machine.nvidia) opened.set('nvidia-smi', machine.nvidia.join('; '));
  if (migs.length > 0) opened.set('MIG', migs.join('; '));
  if (machine.vulkanDriverFiles.length > 0) opened.set('driver files', machine.vulkanDriverFiles.join(', '));
  run.table('The machine', { columns: [left('what'), left('found')], rows: [...opened] });
}
