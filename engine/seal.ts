import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { isRecord } from './form.js';

/** SHA-256 of bytes or of a text's UTF-8, in hexadecimal digits. */
export const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');

/** SHA-256 of a value's JSON. */
export const sha256OfJson = (value: unknown): string => sha256(JSON.stringify(value));

/** SHA-256 of a file's bytes. */
export async function sha256OfFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

/**
 * A seal is a hash that a file of ours holds over the rest of it. It finds damage and careless edits; it is no signature:
 * whoever changes the file on purpose can compute it anew.
 *
 * @returns the object with the SHA-256 of its JSON as its last field, `sha256`.
 */
export const sealed = <T extends object>(value: T): T & { readonly sha256: string } => ({
  ...value,
  sha256: sha256OfJson(value),
});

/** What is wrong with a value that was sealed and read again as JSON; undefined where nothing is. */
export function brokenSeal(value: unknown): string | undefined {
  if (!isRecord(value)) return 'it is not an object';
  const { sha256: stated, ...rest } = value;
  if (stated === undefined) return 'it has no "sha256" over its content';
  return stated === sha256OfJson(rest) ? undefined : 'its content does not match its "sha256"';
}
