import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { openWeightFile } from '../checkpoint/fileReads.js';
import { requiredJsonOf, requiredTextOf } from '../checkpoint/modelSource.js';
import { openModelSource } from './openModelSource.js';

/** Starts a SHA-256 over config.json and lists the weight files. */
async function begin(model: string): Promise<{ hash: Hash; weightFiles: string[] }> {
  const source = await openModelSource(model);
  const config = JSON.stringify(await requiredJsonOf(source, 'config.json'));
  return { hash: createHash('sha256').update(config), weightFiles: await source.weightFiles() };
}

/**
 * Identifies a model without reading all of it: SHA-256 over config.json and, for every weight file, its name, size, and
 * first and last MiB.
 */
export async function modelFingerprint(model: string): Promise<string> {
  const { hash, weightFiles } = await begin(model);
  for (const path of weightFiles) {
    const { file, size } = await openWeightFile(path);
    try {
      const piece = Math.min(size, 1 << 20);
      hash.update(`${basename(path)} ${size}`);
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
 * Identifies exactly what a model computes: SHA-256 over config.json and all bytes of its weight files. Unlike
 * modelFingerprint, it distinguishes models that differ in a single layer.
 *
 * @throws RmError CHECKPOINT_MISSING.
 */
export async function weightsFingerprint(model: string, signal?: AbortSignal): Promise<string> {
  const { hash, weightFiles } = await begin(model);
  for (const path of weightFiles) {
    hash.update(`${basename(path)} ${(await stat(path)).size}`);
    const stream = createReadStream(path, { highWaterMark: 4 << 20, ...(signal && { signal }) });
    for await (const chunk of stream) hash.update(chunk as Buffer);
  }
  return hash.digest('hex');
}

/** SHA-256 of tokenizer.json. @throws RmError CHECKPOINT_MISSING, CONFIG_INVALID. */
export async function tokenizerFingerprint(model: string): Promise<string> {
  return createHash('sha256')
    .update(await requiredTextOf(await openModelSource(model), 'tokenizer.json'))
    .digest('hex');
}
