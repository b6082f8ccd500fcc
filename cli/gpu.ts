import type { Device } from '../engine/device.js';
import { RmError } from '../engine/errors.js';
import type { Run } from './command.js';
import { loadTuning } from './tuningCache.js';

/** Why the binary of the webgpu package does not load, and what helps. */
export function explainBinaryFailure(message: string): { reason: string; cure: string } {
  const library = /(GLIBC(?:XX)?)_([\d.]+)['`’]? not found/.exec(message);
  if (library) {
    return {
      reason: `the webgpu package needs ${library[1]} ${library[2]}, this system has an older one`,
      cure: 'Use a system with glibc 2.34 and libstdc++ 6.0.30 or newer: Debian 12, Ubuntu 22.04, RHEL 9.',
    };
  }
  const shared = /([\w.+-]+\.so[\w.]*): cannot open shared object file/.exec(message);
  if (shared) {
    return {
      reason: `the library ${shared[1]} is missing`,
      cure: `Install the package that has ${shared[1]}.`,
    };
  }
  if (/Cannot find (module|package)|ENOENT|MODULE_NOT_FOUND/i.test(message)) {
    return {
      reason: `the webgpu package has no binary for ${process.platform} ${process.arch}, or is not installed`,
      cure: 'Run npm install again. There are binaries for Linux (x64, arm64, glibc), macOS and Windows (x64, arm64).',
    };
  }
  return {
    reason: message.split('\n')[0]!,
    cure: 'Run npm install again, and rm-engine doctor for more.',
  };
}

const isBinaryFailure = (error: unknown): error is Error =>
  error instanceof Error &&
  (/dawn\.node|GLIBC|shared object file/.test(error.message) ||
    (error as NodeJS.ErrnoException).code === 'ERR_DLOPEN_FAILED');

/**
 * Imports a module that needs the GPU's binary: `await load(() => import('../model/model.js'))`. Static imports of
 * those would make every command slow, and fail where the binary does not load.
 *
 * @throws RmError ADAPTER_NONE where the binary does not load.
 */
export async function load<T>(module: () => Promise<T>): Promise<T> {
  try {
    return await module();
  } catch (error) {
    if (!isBinaryFailure(error)) throw error;
    const { reason, cure } = explainBinaryFailure(error.message);
    throw new RmError('ADAPTER_NONE', `WebGPU cannot be used: ${reason}`, cure, { cause: error });
  }
}

/** What a user should know of the adapter in use. */
export function announceAdapter(device: Device, { terminal }: Pick<Run<object>, 'terminal'>): void {
  const software = device.info.kind === 'software';
  terminal.note(`adapter: ${device.info.description}${software ? ' (software: works, but slowly)' : ''}`);
}

/** Opens the device of --adapter and --memory-limit, does the work and closes it, whatever happens. */
export async function withDevice<T>(run: Run<object>, work: (device: Device) => Promise<T>): Promise<T> {
  const { Device } = await load(() => import('../engine/device.js'));
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
