import type { DeviceProbes } from './cardMemory.js';
import { freeDestroyed } from './freeDestroyed.js';

const STEP = 2 ** 30;

/** More than any card has. */
const MOST = 512 * STEP;

/**
 * Allocates and frees memory of a device that nothing else uses yet.
 *
 * @param freeOnHost free bytes of the host now.
 */
export const memoryProbes = (gpu: GPUDevice, freeOnHost: () => number): DeviceProbes => {
  const size = Math.min(STEP, gpu.limits.maxBufferSize);
  const create = (bytes: number) =>
    gpu.createBuffer({ label: 'memory probe', size: bytes, usage: GPUBufferUsage.COPY_DST });
  const free = async (buffers: readonly GPUBuffer[]) => {
    for (const buffer of buffers) buffer.destroy();
    await freeDestroyed(gpu);
  };
  return {
    allocatable: async () => {
      const buffers: GPUBuffer[] = [];
      const before = freeOnHost();
      try {
        while (buffers.length * size < MOST) {
          gpu.pushErrorScope('out-of-memory');
          const buffer = create(size);
          if (await gpu.popErrorScope()) return buffers.length * size;
          buffers.push(buffer);
          // Some drivers go on in the host's memory.
          const taken = before - freeOnHost();
          if (taken > 2 * STEP) return Math.max(0, buffers.length * size - taken) || undefined;
        }
        return undefined;
      } finally {
        await free(buffers);
      }
    },
    hold: async bytes => {
      const buffer = create(Math.min(bytes, gpu.limits.maxBufferSize));
      // Some drivers take memory only when it is written.
      const encoder = gpu.createCommandEncoder();
      encoder.clearBuffer(buffer);
      gpu.queue.submit([encoder.finish()]);
      await gpu.queue.onSubmittedWorkDone();
      return { [Symbol.asyncDispose]: () => free([buffer]) };
    },
  };
};
