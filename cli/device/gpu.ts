import { describeLimit } from '../../engine/cardMemory.js';
import type { Device } from '../../engine/device.js';
import { formatBytes } from '../../engine/format.js';
import type { Run } from '../terminal/command.js';
import { loadTuning } from './tuningCache.js';

/** Tells the user which adapter is in use and how much of its memory, and shows its memory in the progress from now on. */
export function announceAdapter(
  device: Device,
  { terminal, progress }: Pick<Run<object>, 'terminal' | 'progress'>,
): void {
  progress.watch(device.memory);
  const software = device.info.kind === 'software';
  terminal.note(`adapter: ${device.info.description}${software ? ' (software: works, but slowly)' : ''}`);
  if (device.card) terminal.note(describeLimit(device.card));
}

/** Opens the device of --adapter and --memory-limit, does the work, and closes the device even if the work fails. */
export async function withDevice<T>(run: Run<object>, work: (device: Device) => Promise<T>): Promise<T> {
  const { Device } = await import('../../engine/device.js');
  const device = await Device.open(run.deviceOptions);
  try {
    announceAdapter(device, run);
    await loadTuning(device, run.terminal);
    const result = await work(device);
    run.terminal.detail(`peak device memory: ${formatBytes(device.memory.peakBytes)}`);
    return result;
  } finally {
    run.progress.watch(undefined);
    await device.close();
  }
}
