import { parseJsonText, RmError, reasonOf } from '../../engine/index.js';
import { isRecord } from '../files/jsonFile.js';
import { notTheFile } from '../files/notTheFile.js';

/**
 * The header of a safetensors file and every check on it.
 * Format: u64 little-endian header length, JSON header, tensor bytes. https://github.com/huggingface/safetensors
 */

/** Bits per element of every type in the format. Types that kernels lack fail on reading. */
export const storageBits: Readonly<Record<string, number>> = {
  ...{ F64: 64, I64: 64, U64: 64, C64: 64, F32: 32, I32: 32, U32: 32, F16: 16, BF16: 16, I16: 16, U16: 16 },
  ...{ I8: 8, U8: 8, BOOL: 8, F8_E4M3: 8, F8_E5M2: 8, F8_E8M0: 8, F8_E4M3FNUZ: 8, F8_E5M2FNUZ: 8 },
  ...{ F6_E2M3: 6, F6_E3M2: 6, F4: 4 },
};

/** The reference implementation's limit; a larger number means that this is no header. */
const maxHeaderBytes = 100_000_000;

/** One tensor of a file: `begin` and `end` are absolute byte positions in the file. */
export interface SafetensorsEntry {
  readonly name: string;
  /** As written in the file: F32, BF16, I64 ... */
  readonly storage: string;
  readonly shape: number[];
  readonly begin: number;
  readonly end: number;
}

const again = 'The file is damaged or was not fully copied: download or export it again.';

export function corrupt(message: string, fix = again, cause?: unknown): RmError {
  return new RmError('CHECKPOINT_CORRUPT', message, fix, cause === undefined ? undefined : { cause });
}

/** Number of a file's first bytes that tell whether it is a safetensors file. */
export const PREFIX_BYTES = 64;

/** Checks the first bytes (PREFIX_BYTES, or all) of a file of `fileBytes` bytes and returns the header's length. */
export function headerLength(prefix: Uint8Array, fileBytes: number, path: string): number {
  // A header begins with "{"; the bytes of its length may be any.
  const other = prefix[8] === 0x7b ? undefined : notTheFile(Buffer.from(prefix).toString('latin1'));
  if (other) throw corrupt(`${path}: ${other.problem}`, other.fix);
  if (fileBytes < 8 || prefix.byteLength < 8) {
    throw corrupt(`${path}: has ${fileBytes} bytes, too few for a safetensors file`);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(maxHeaderBytes)) {
    throw corrupt(`${path}: the header claims ${length} bytes, more than the ${maxHeaderBytes} allowed`);
  }
  if (8n + length > BigInt(fileBytes)) {
    throw corrupt(`${path}: the header claims ${length} bytes, but the file ends after ${fileBytes}`);
  }
  return Number(length);
}

/** Finds a duplicate key: JSON.parse silently keeps the last of two equal keys, which would hide a tensor. */
function duplicateKey(json: string): string | undefined {
  const open: (Set<string> | null)[] = [];
  let last = '';
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\]:]/g)) {
    if (token === '{') open.push(new Set());
    else if (token === '[') open.push(null);
    else if (token === '}' || token === ']') open.pop();
    else if (token !== ':') last = token;
    else {
      const key = JSON.parse(last) as string;
      const keys = open.at(-1);
      if (keys?.has(key)) return key;
      keys?.add(key);
    }
  }
  return undefined;
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function parseEntry(name: string, value: unknown, dataStart: number, path: string): SafetensorsEntry {
  const where = `${path}: tensor ${JSON.stringify(name)}`;
  if (!isRecord(value)) throw corrupt(`${where}: its header entry is not an object`);
  const { dtype, shape, data_offsets: offsets } = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(storageBits, dtype)) {
    throw corrupt(
      `${where}: unknown dtype ${JSON.stringify(dtype)}; the format knows ${Object.keys(storageBits).join(', ')}`,
    );
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw corrupt(`${where}: shape ${JSON.stringify(shape)} is not a list of whole numbers`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw corrupt(`${where}: data_offsets ${JSON.stringify(offsets)} are not two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) throw corrupt(`${where}: data_offsets [${begin}, ${end}] run backwards`);
  const bits = shape.reduce((product: number, size: number) => product * size, storageBits[dtype]!);
  if (bits !== (end - begin) * 8) {
    throw corrupt(
      `${where}: shape [${shape}] of ${dtype} needs ${bits / 8} bytes, its data_offsets hold ${end - begin}`,
    );
  }
  return { name, storage: dtype, shape, begin: dataStart + begin, end: dataStart + end };
}

interface SafetensorsHeader {
  /** In the order of their bytes. */
  readonly entries: readonly SafetensorsEntry[];
  /** The strings of `__metadata__`; other values are dropped. */
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * Parses and checks a header: valid JSON, known types, sizes that match the shapes, and tensors that cover the rest of
 * the file without overlap or gap.
 *
 * @throws RmError CHECKPOINT_CORRUPT naming file and tensor.
 */
export function parseHeader(bytes: Uint8Array, fileBytes: number, path: string): SafetensorsHeader {
  let header: unknown;
  let json: string;
  try {
    json = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    header = parseJsonText(json);
  } catch (error) {
    throw corrupt(`${path}: the header is not valid JSON: ${reasonOf(error)}`, again, error);
  }
  if (!isRecord(header)) throw corrupt(`${path}: the header is not a JSON object`);
  const twice = duplicateKey(json);
  if (twice !== undefined) throw corrupt(`${path}: the header names ${JSON.stringify(twice)} twice`);

  const dataStart = 8 + bytes.byteLength;
  const entries = Object.entries(header)
    .filter(([name]) => name !== '__metadata__')
    .map(([name, value]) => parseEntry(name, value, dataStart, path))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  let position = dataStart;
  for (const { name, begin, end } of entries) {
    const where = `${path}: tensor ${JSON.stringify(name)}`;
    if (begin < position)
      throw corrupt(`${where}: overlaps the tensor before it by ${position - begin} bytes`);
    if (begin > position) throw corrupt(`${where}: ${begin - position} bytes before it belong to no tensor`);
    if (end > fileBytes) {
      throw corrupt(`${where}: ends at byte ${end}, but the file has only ${fileBytes}: it is truncated`);
    }
    position = end;
  }
  if (position !== fileBytes) {
    throw corrupt(`${path}: ${fileBytes - position} bytes after the last tensor belong to no tensor`);
  }
  const described = isRecord(header.__metadata__) ? Object.entries(header.__metadata__) : [];
  const words = described.filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  return { entries, metadata: Object.fromEntries(words) };
}
