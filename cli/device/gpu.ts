import { describeLimit } from '../../engine/cardMemory.js';
import type { Device } from '../../engine/device.js';
import { formatBytes } from '../../engine/format.js';
import { thisHost } from '../../engine/vulkanFiles.js';
import type { Run } from '../terminal/command.js';
import { withoutDawnWarnings } from '../terminal/dawnWarnings.js';
import { choiceWarnings } from './adapterChoice.js';
import { checkUsedVariants, keepVerdicts } from './checkedVariants.js';
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
  const warnings = choiceWarnings({
    ...{ info: device.info, env: process.env, gpus: thisHost.list('/proc/driver/nvidia/gpus').length },
    ...{ alike: device.card?.alike ?? 1, address: device.card?.address },
  });
  for (const warning of warnings) terminal.warn(warning);
}

/**
 * Opens the device of --adapter and --memory-limit, does the work, and closes the device even if the work fails. Where a
 * kernel variant turns out to compute wrong results on it, no result has left the device yet: the work is done again
 * without that variant.
 *
 * @param work `again` says that a part of the work may have been done before.
 */
export async function withDevice<T>(
  run: Run<object>,
  work: (device: Device, again: boolean) => Promise<T>,
): Promise<T> {
  for (let again = false; ; again = true) {
    const outcome = await onOneDevice(run, device => work(device, again));
    if ('result' in outcome) return outcome.result;
  }
}

/** @returns the result of the work; nothing where a variant was found wrong. */
async function onOneDevice<T>(
  run: Run<object>,
  work: (device: Device) => Promise<T>,
): Promise<{ result: T } | { wrong: true }> {
  const { Device } = await import('../../engine/device.js');
  const device = await withoutDawnWarnings(
    () => Device.open({ ...run.deviceOptions, robustness: false }),
    run.terminal,
  );
  try {
    announceAdapter(device, run);
    await loadTuning(device, run.terminal);
    await checkUsedVariants(device, run.terminal);
    const result = await work(device);
    run.terminal.detail(`peak device memory: ${formatBytes(device.memory.peakBytes)}`);
    await keepVerdicts(device, run.terminal);
    return { result };
  } catch (error) {
    if (await keepVerdicts(device, run.terminal)) return { wrong: true };
    throw error;
  } finally {
    run.progress.watch(undefined);
    await device.close();
  }
}
