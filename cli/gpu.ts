import type { Device } from '../engine/device.js';
import type { Run } from './command.js';
import { loadTuning } from './tuningCache.js';

/** What a user should know of the adapter in use. */
export function announceAdapter(device: Device, { terminal }: Pick<Run<object>, 'terminal'>): void {
  const software = device.info.kind === 'software';
  terminal.note(`adapter: ${device.info.description}${software ? ' (software: works, but slowly)' : ''}`);
}

/** Opens the device of --adapter and --memory-limit, does the work and closes it, whatever happens. */
export async function withDevice<T>(run: Run<object>, work: (device: Device) => Promise<T>): Promise<T> {
  const { Device } = await import('../engine/device.js');
  const device = await Device.open(run.deviceOptions);
  try {
    announceAdapter(device, run);
    await loadTuning(device, run.terminal);
    const result = await work(device);
    run.terminal.detail(`peak of device memory: ${device.memory.peakBytes} bytes`);
    return result;
  } finally {
    await device.close();
  }
}
