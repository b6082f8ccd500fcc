import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RmError } from '../engine/index.js';
import { totalTokens } from '../model/batch.js';
import type { ChatTemplate } from '../model/chat.js';
import { type Document, readDocuments } from '../model/documents.js';
import type { Tokenizer } from '../model/tokenizer.js';
import { tokenSequences } from '../model/tokenSequences.js';

export interface Calibration {
  readonly sequences: readonly (readonly number[])[];
  readonly tokens: number;
  readonly files: readonly { path: string; sha256: string }[];
}

export interface CalibrationOptions {
  /** .jsonl, .json, .txt or .parquet files; without them, the small set that ships with the package. */
  files?: readonly string[];
  /** Tokens at most. */
  tokens: number;
  sequenceLength: number;
  textField?: string;
}

/** A file that ships with the package; the compiled code lies one folder deeper than the sources. */
export function shippedPath(...parts: string[]): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'assets')) && folder !== dirname(folder)) folder = dirname(folder);
  return join(folder, 'assets', ...parts);
}

/** The calibration files that ship with the package; conversations only for models with a chat template. */
export async function shippedCalibration(chat: ChatTemplate): Promise<string[]> {
  const names = (await readdir(shippedPath('calibration'))).filter(name => name.endsWith('.jsonl')).sort();
  return names
    .filter(name => chat.available || !name.startsWith('conversations'))
    .map(name => shippedPath('calibration', name));
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

/** Documents of several files in turn, so that a limit on tokens keeps the mix. */
async function* alternate(sources: readonly AsyncGenerator<Document>[]): AsyncGenerator<Document> {
  const open = new Set(sources);
  try {
    while (open.size) {
      for (const source of open) {
        const { value, done } = await source.next();
        if (done) open.delete(source);
        else yield value;
      }
    }
  } finally {
    // Files that were not read to their end are still open.
    for (const source of open) await source.return(undefined);
  }
}

/**
 * Token sequences for calibration: plain text as it is, conversations through the model's own template.
 *
 * @throws RmError DATA_INVALID when a file cannot be read or all of them hold no tokens.
 */
export async function readCalibration(
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { files, tokens, sequenceLength, textField }: CalibrationOptions,
): Promise<Calibration> {
  const paths = files?.length ? files : await shippedCalibration(chat);
  const documents = alternate(
    paths.map(path => readDocuments(path, textField === undefined ? {} : { textField })),
  );
  const sequences = await tokenSequences(documents, tokenizer, chat, { sequenceLength, tokens });
  const total = totalTokens(sequences);
  if (total === 0) {
    throw new RmError(
      'DATA_INVALID',
      `${paths.join(', ')}: no calibration tokens`,
      'Give files with text or conversations.',
    );
  }
  const described = await Promise.all(paths.map(async path => ({ path, sha256: await sha256(path) })));
  return { sequences, tokens: total, files: described };
}
