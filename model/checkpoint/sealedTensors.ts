import { createHash } from 'node:crypto';
import { open } from 'node:fs/promises';
import {
  asBytes,
  asF32,
  hashText,
  parseJsonText,
  RmError,
  readForm,
  reasonOf,
  sha256,
  sha256OfJson,
  tableOf,
} from '../../engine/index.js';
import { outputError } from '../files/outputError.js';
import { withOutputFile } from '../files/outputFile.js';
import type { FileKind } from '../files/outputKind.js';
import { openSafetensorsFile, type SafetensorsFile } from './safetensors.js';
import { safetensorsKind } from './safetensorsKind.js';
import { type Metadata, type TensorSource, tensorHeader, writeSafetensorsFile } from './safetensorsWriter.js';

/**
 * A safetensors file of ours: f32 tensors and a description in JSON. One hash covers format, description, and the name,
 * shape and hash of every tensor; a tensor's own hash is checked when it is read.
 */
export interface SealedTensors {
  readonly description: unknown;
  readonly names: readonly string[];
  /** @throws RmError DATA_INVALID where there is no such tensor. */
  shapeOf(name: string): readonly number[];
  /** f32, row-major. @throws RmError DATA_INVALID where the bytes have changed, or a number is not finite. */
  read(name: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** A kind of such files. */
export interface SealedKind {
  /** Its name and version. */
  readonly format: string;
  /** The kind in messages, such as "statistics file". */
  readonly what: string;
  /** What to do where a file is damaged, or of another version. */
  readonly fix: string;
}

/** How an earlier file of this kind, in any version of its format, is recognised. */
export const sealedFile = ({ what, format }: SealedKind): FileKind => {
  const unversioned = (text = '') => text.replace(/ \d+$/, '');
  return safetensorsKind(`a ${what}`, ({ metadata }) => unversioned(metadata.format) === unversioned(format));
};

/** A matrix to write, f32; its bytes are read once. */
export type SealedSource = Omit<TensorSource, 'dtype'>;

type Hashes = Readonly<Record<string, string>>;

interface Shaped {
  readonly name: string;
  readonly shape: readonly number[];
}

/** The metadata of a header, with the hash over them and the tensors. */
export function sealedMetadata(
  format: string,
  description: string,
  hashes: Hashes,
  tensors: readonly Shaped[],
): Metadata {
  const all = tensors.map(({ name, shape }) => [name, shape, hashes[name]!]);
  const seal = sha256OfJson([format, description, all.sort(([a], [b]) => (a! < b! ? -1 : 1))]);
  return { format, description, tensors: JSON.stringify(hashes), sha256: seal };
}

/**
 * Writes such a file; it replaces the previous one as a whole.
 *
 * @throws RmError OUTPUT_FAILED.
 */
export async function writeSealedTensors(
  path: string,
  kind: SealedKind,
  description: unknown,
  tensors: readonly SealedSource[],
): Promise<void> {
  const { format } = kind;
  const text = JSON.stringify(description);
  const hashes: Record<string, string> = Object.fromEntries(tensors.map(({ name }) => [name, sha256('')]));
  const hashed = tensors.map(({ name, shape, bytes }) => ({
    ...{ name, shape, dtype: 'f32' as const },
    bytes: async function* () {
      const hash = createHash('sha256');
      const content = await bytes();
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        hash.update(piece);
        yield piece;
      }
      hashes[name] = hash.digest('hex');
    },
  }));
  await withOutputFile(path, sealedFile(kind), { force: true }, async temporary => {
    // The hashes are known once the tensors are written; they do not change the header's length.
    await writeSafetensorsFile(temporary, hashed, undefined, sealedMetadata(format, text, hashes, tensors));
    try {
      const file = await open(temporary, 'r+');
      try {
        await file.write(
          tensorHeader(hashed, sealedMetadata(format, text, hashes, tensors)),
          0,
          undefined,
          0,
        );
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (error) {
      throw outputError(error, path);
    }
  });
}

/** Opens such a file and checks its hash. @throws RmError DATA_INVALID. */
export async function openSealedTensors(path: string, kind: SealedKind): Promise<SealedTensors> {
  const { what, fix } = kind;
  const damaged = (problem: string, cause?: unknown) =>
    new RmError('DATA_INVALID', `${path}: not a complete ${what}: ${problem}`, fix, { cause });
  let file: SafetensorsFile | undefined;
  try {
    file = await openSafetensorsFile(path);
    return sealedTensors(file, kind, damaged);
  } catch (error) {
    await file?.close();
    if (error instanceof RmError && error.code === 'DATA_INVALID') throw error;
    throw damaged(reasonOf(error), error);
  }
}

function sealedTensors(
  file: SafetensorsFile,
  { format }: SealedKind,
  damaged: (problem: string) => RmError,
): SealedTensors {
  const { entries, metadata } = file;
  if (metadata.format !== format) {
    throw damaged(`its format is ${JSON.stringify(metadata.format ?? null)}, not "${format}"`);
  }
  const { description = '', sha256: stated } = metadata;
  const hashes = readForm(parseJsonText(metadata.tensors ?? 'null'), tableOf(hashText), damaged);
  for (const { name, storage } of entries.values()) {
    if (storage !== 'F32' || !Object.hasOwn(hashes, name)) {
      throw damaged(`${JSON.stringify(name)} is no tensor of it`);
    }
  }
  if (sealedMetadata(format, description, hashes, [...entries.values()]).sha256 !== stated) {
    throw damaged('its content does not match its hash');
  }
  const entry = (name: string) => {
    const found = entries.get(name);
    if (!found) throw damaged(`${JSON.stringify(name)} is missing`);
    return found;
  };
  return {
    description: parseJsonText(description),
    names: [...entries.keys()],
    shapeOf: name => entry(name).shape,
    async read(name) {
      const { begin, end } = entry(name);
      const bytes = await file.read(entry(name), 0, end - begin);
      if (sha256(bytes) !== hashes[name]) throw damaged(`${JSON.stringify(name)} has changed`);
      if (!asF32(bytes).every(Number.isFinite)) {
        throw damaged(`${JSON.stringify(name)} holds numbers that are not finite`);
      }
      return asBytes(bytes);
    },
    close: () => file.close(),
  };
}
