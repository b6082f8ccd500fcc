import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Device } from '../../engine/index.js';
import { RmError } from '../../engine/index.js';
import { writeSafetensorsFile } from '../../model/checkpoint/safetensorsWriter.js';
import { dataPath } from '../support.js';

/** A text or value as the bytes of a file. */
export const bytesOf = (content: unknown): Uint8Array =>
  new TextEncoder().encode(typeof content === 'string' ? content : JSON.stringify(content));

/** A file of test/data. */
export const dataFile = (...parts: string[]): Uint8Array => new Uint8Array(readFileSync(dataPath(...parts)));

/** Writes the input as a file, then reads it as a user's. */
export const asFile =
  (path: string, read: (path: string) => Promise<unknown>) =>
  async (input: Uint8Array): Promise<void> => {
    await writeFile(path, input);
    await read(path);
  };

/** A safetensors file of three small tensors. */
export async function smallSafetensors(
  folder: string,
  metadata?: Record<string, string>,
): Promise<Uint8Array> {
  const path = join(folder, 'small.safetensors');
  const tensor = (name: string, dtype: 'f32' | 'bf16' | 'u32', shape: number[]) => {
    const bytes = new Uint8Array(shape.reduce((a, b) => a * b, dtype === 'bf16' ? 2 : 4)).fill(63);
    return { name, dtype, shape, bytes: () => bytes };
  };
  const tensors = [
    tensor('a.weight', 'f32', [2, 3]),
    tensor('b.weight', 'bf16', [4]),
    tensor('ids', 'u32', [2]),
  ];
  await writeSafetensorsFile(path, tensors, undefined, metadata);
  return new Uint8Array(readFileSync(path));
}

/** Stands for a GPU: the first use of it ends the reading, which until then needs none. */
export const noDevice = new Proxy({} as Device, {
  get(_, name) {
    if (typeof name === 'symbol') return undefined;
    throw new RmError(
      'ADAPTER_NONE',
      'there is no device here',
      'Nothing: what needs no device has been read.',
    );
  },
});

/** Fails where a reader let through what it promises to refuse. */
export function promised(condition: boolean, what: string): void {
  if (!condition) throw new Error(`let through: ${what}`);
}
