import { RmError } from './errors.js';

/**
 * Imports the webgpu package when an adapter is first requested. Its binary is large and does not load on every machine;
 * functions that need no GPU should work there.
 *
 * @throws RmError ADAPTER_NONE when the binary does not load.
 */
export async function loadWebgpu(): Promise<typeof import('webgpu')> {
  try {
    return await import('webgpu');
  } catch (cause) {
    const { explainBinaryFailure } = await import('./webgpuFailure.js');
    const { reason, cure } = explainBinaryFailure((cause as Error).message);
    throw new RmError('ADAPTER_NONE', `WebGPU cannot be used: ${reason}`, cure, { cause });
  }
}
