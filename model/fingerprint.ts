import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { readJsonFile } from './jsonFile.js';

/**
 * Identifies a model folder without reading all of it: SHA-256 over config.json and, for every weight file, its name,
 * size, first and last mebibyte.
 */
export async function modelFingerprint(folder: string): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(await readJsonFile(join(folder, 'config.json'))));
  for (const name of (await readdir(folder)).filter(file => file.endsWith('.safetensors')).sort()) {
    const path = join(folder, name);
    // The weights in use have been read; another entry of that name may be a folder or a link to nothing.
    if (!(await stat(path).catch(() => undefined))?.isFile()) continue;
    const file = await open(path);
    try {
      const { size } = await file.stat();
      const piece = Math.min(size, 1 << 20);
      hash.update(`${basename(name)} ${size}`);
      for (const start of [0, size - piece]) {
        const { buffer } = await file.read(Buffer.alloc(piece), 0, piece, start);
        hash.update(buffer);
      }
    } finally {
      await file.close();
    }
  }
  return hash.digest('hex');
}

/**
 * Identifies what a model computes: SHA-256 over config.json and all bytes of its weight files. Two models that differ
 * in one layer have different ones, which modelFingerprint does not promise.
 *
 * @throws RmError CHECKPOINT_MISSING.
 */
export async function weightsFingerprint(folder: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256').update(JSON.stringify(await readJsonFile(join(folder, 'config.json'))));
  for (const name of (await readdir(folder)).filter(file => file.endsWith('.safetensors')).sort()) {
    const path = join(folder, name);
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) continue;
    hash.update(`${name} ${found.size}`);
    const stream = createReadStream(path, { highWaterMark: 4 << 20, ...(signal && { signal }) });
    for await (const chunk of stream) hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}
