import { RmError } from '../../engine/index.js';
import { type GgmlType, ggmlTypeOf } from './tensorTypes.js';
import {
  type GgufArray,
  type GgufValue,
  type NumberType,
  numberBytes,
  readNumber,
  type ValueType,
  valueTypes,
} from './values.js';

/**
 * The header of a GGUF file. Every value in it is checked against the file before it is used.
 * Format: "GGUF", version, number of tensors, number of metadata entries, the entries, the tensors' descriptions,
 * padding to the alignment, the tensors' bytes. Source: ggml/docs/gguf.md.
 */
export interface GgufHeader {
  readonly version: number;
  readonly alignment: number;
  readonly metadata: ReadonlyMap<string, GgufEntry>;
  /** In the order of the file. */
  readonly tensors: readonly GgufTensor[];
}

/** One metadata entry with its bytes in the file (key, type and value). */
type GgufEntry = GgufValue & { readonly bytes: Uint8Array };

export interface GgufTensor {
  readonly name: string;
  readonly type: GgmlType;
  /** Row-major, in torch's order; the file stores it reversed. */
  readonly shape: readonly number[];
  /** Byte positions in the file. */
  readonly begin: number;
  readonly end: number;
}

/** More than any model's vocabulary needs; a longer header is not a header. */
export const MAX_HEADER_BYTES = 256 << 20;
const MAX_DIMENSIONS = 4;
/** The format allows lists of lists; no model uses them. */
const MAX_NESTING = 4;
const MAX_ALIGNMENT = 1 << 20;
/** llama.cpp accepts at most 64 bytes. */
const MAX_NAME_BYTES = 1024;

const again = 'The file is damaged or was not fully copied: download or convert it again.';

export const corruptGguf = (message: string, fix = again, cause?: unknown): RmError =>
  new RmError('CHECKPOINT_CORRUPT', message, fix, cause === undefined ? undefined : { cause });

/** Thrown by the parser if its bytes end before the header does. */
export class MoreBytesNeeded extends Error {}

class Cursor {
  at = 0;
  readonly #view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    /** Size of the whole file. */
    readonly fileBytes: number,
    readonly path: string,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Advances by `count` bytes and returns the position before them. */
  take(count: number, what: string): number {
    const begin = this.at;
    if (count > this.fileBytes - begin) {
      throw corruptGguf(
        `${this.path}: ${what} needs ${count} bytes from byte ${begin} on, but the file has only ${this.fileBytes}`,
      );
    }
    if (begin + count > this.bytes.byteLength) throw new MoreBytesNeeded();
    this.at = begin + count;
    return begin;
  }

  number(type: NumberType, what: string): number {
    return readNumber(this.#view, this.take(numberBytes[type], what), type);
  }

  /** Reads a count of items of at least `least` bytes each; rejects more than the rest of the file can hold. */
  count(least: number, what: string): number {
    const count = this.number('u64', what);
    const room = Math.floor((this.fileBytes - this.at) / least);
    if (count > room) {
      throw corruptGguf(`${this.path}: ${what} is ${count}, but the rest of the file holds ${room} at most`);
    }
    return count;
  }

  span(begin: number): Uint8Array {
    return this.bytes.subarray(begin, this.at);
  }

  /** Reads the bytes of a string. */
  string(what: string): Uint8Array {
    const length = this.count(1, `the length of ${what}`);
    return this.span(this.take(length, what));
  }

  /** Reads the name of a tensor or key. */
  name(what: string): string {
    const bytes = this.string(what);
    if (bytes.byteLength === 0 || bytes.byteLength > MAX_NAME_BYTES) {
      throw corruptGguf(`${this.path}: ${what} has ${bytes.byteLength} bytes`);
    }
    try {
      return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    } catch (error) {
      throw corruptGguf(`${this.path}: ${what} is not UTF-8 text`, again, error);
    }
  }
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Skips a value's bytes, checking them; `decodeValue` reads them on demand. */
function skipValue(cursor: Cursor, type: ValueType, what: string, depth: number): void {
  if (type === 'string') cursor.string(what);
  else if (type === 'array') skipArray(cursor, what, depth);
  else cursor.take(type === 'bool' ? 1 : numberBytes[type], what);
}

function valueType(cursor: Cursor, what: string): ValueType {
  const id = cursor.number('u32', `the type of ${what}`);
  const type = valueTypes[id];
  if (type) return type;
  throw corruptGguf(`${cursor.path}: ${what} has the unknown type ${id}`);
}

function skipArray(cursor: Cursor, what: string, depth: number): { of: ValueType; length: number } {
  if (depth > MAX_NESTING) throw corruptGguf(`${cursor.path}: ${what} nests lists ${depth} deep`);
  const of = valueType(cursor, `an element of ${what}`);
  const least = of === 'string' ? 8 : of === 'array' ? 12 : of === 'bool' ? 1 : numberBytes[of];
  const length = cursor.count(least, `the number of elements of ${what}`);
  if (of === 'string' || of === 'array') {
    for (let i = 0; i < length; i++) skipValue(cursor, of, what, depth + 1);
  } else {
    cursor.take(length * least, what);
  }
  return { of, length };
}

/** Decodes a list whose bytes skipArray has checked. */
function decodeArray(cursor: Cursor): unknown[] {
  const of = valueType(cursor, 'a list');
  const length = cursor.number('u64', 'a list');
  return Array.from({ length }, () => decodeValue(cursor, of));
}

function decodeValue(cursor: Cursor, type: ValueType): unknown {
  if (type === 'string') return utf8.decode(cursor.string('a string'));
  if (type === 'bool') return cursor.number('u8', 'a flag') !== 0;
  if (type === 'array') return decodeArray(cursor);
  return cursor.number(type, 'a number');
}

function readEntry(cursor: Cursor): [string, GgufEntry] {
  const begin = cursor.at;
  const key = cursor.name('a metadata key');
  const what = `metadata ${JSON.stringify(key)}`;
  const type = valueType(cursor, what);
  if (type === 'array') {
    const start = cursor.at;
    const { of, length } = skipArray(cursor, what, 1);
    const own = cursor.span(start);
    const value: GgufArray = {
      of,
      length,
      values: () => decodeArray(new Cursor(own, own.byteLength, cursor.path)),
    };
    return [key, { type, value, bytes: cursor.span(begin) }];
  }
  if (type === 'bool') {
    const flag = cursor.number('u8', what);
    if (flag > 1) throw corruptGguf(`${cursor.path}: ${what} is ${flag}; a flag is 0 or 1`);
    return [key, { type, value: flag === 1, bytes: cursor.span(begin) }];
  }
  if (type === 'string') {
    return [key, { type, value: utf8.decode(cursor.string(what)), bytes: cursor.span(begin) }];
  }
  return [key, { type, value: cursor.number(type, what), bytes: cursor.span(begin) }];
}

/** Reads a tensor's description; `begin` and `end` count from the start of the tensor data. */
function readTensor(cursor: Cursor): GgufTensor {
  const name = cursor.name('the name of a tensor');
  const where = `${cursor.path}: tensor ${JSON.stringify(name)}`;
  const dimensions = cursor.number('u32', where);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw corruptGguf(`${where}: has ${dimensions} dimensions; 1 to ${MAX_DIMENSIONS} are allowed`);
  }
  const extents = Array.from({ length: dimensions }, () => cursor.number('u64', where));
  const id = cursor.number('u32', where);
  const begin = cursor.number('u64', where);
  const type = ggmlTypeOf(id);
  if (!type) {
    throw corruptGguf(
      `${where}: has the unknown type ${id}`,
      'The file is damaged, or newer than this program: convert it to one of the types in docs/gguf.md.',
    );
  }
  const size = extents.reduce((product, extent) => product * extent, 1);
  if (!Number.isSafeInteger(size) || size < 1)
    throw corruptGguf(`${where}: has the impossible shape [${extents}]`);
  if (extents[0]! % type.blockSize !== 0) {
    throw corruptGguf(
      `${where}: rows of ${extents[0]} are not whole blocks of ${type.blockSize} (${type.name})`,
    );
  }
  const bytes = (size / type.blockSize) * type.blockBytes;
  return { name, type, shape: extents.reverse(), begin, end: begin + bytes };
}

function alignmentOf(metadata: ReadonlyMap<string, GgufEntry>, path: string): number {
  const entry = metadata.get('general.alignment');
  if (!entry) return 32;
  const alignment = entry.type === 'u32' || entry.type === 'u64' ? entry.value : Number.NaN;
  if (alignment >= 1 && alignment <= MAX_ALIGNMENT && Number.isInteger(Math.log2(alignment)))
    return alignment;
  throw corruptGguf(
    `${path}: general.alignment is ${JSON.stringify(entry.value)}; it must be a power of two up to ${MAX_ALIGNMENT}`,
  );
}

/** Turns tensor offsets into file positions, and checks that they lie in the file, aligned and without overlap. */
function placed(
  tensors: readonly GgufTensor[],
  headerEnd: number,
  alignment: number,
  { fileBytes, path }: Cursor,
): GgufTensor[] {
  const dataStart = Math.ceil(headerEnd / alignment) * alignment;
  const result = tensors.map(tensor => ({
    ...tensor,
    begin: dataStart + tensor.begin,
    end: dataStart + tensor.end,
  }));
  let end = dataStart;
  let before = '';
  for (const tensor of [...result].sort((a, b) => a.begin - b.begin)) {
    const where = `${path}: tensor ${JSON.stringify(tensor.name)}`;
    if ((tensor.begin - dataStart) % alignment !== 0) {
      throw corruptGguf(`${where}: begins at ${tensor.begin - dataStart}, not a multiple of ${alignment}`);
    }
    if (tensor.begin < end) throw corruptGguf(`${where}: overlaps tensor ${JSON.stringify(before)}`);
    if (tensor.end > fileBytes) {
      throw corruptGguf(
        `${where}: ends at byte ${tensor.end}, but the file has only ${fileBytes}: it is truncated`,
      );
    }
    end = tensor.end;
    before = tensor.name;
  }
  return result;
}

function checkStart(cursor: Cursor): number {
  const { path, fileBytes } = cursor;
  if (fileBytes < 24) throw corruptGguf(`${path}: has ${fileBytes} bytes, too few for a GGUF file`);
  const magic = utf8.decode(cursor.span(cursor.take(4, 'the first four bytes')));
  if (magic === 'vers') {
    throw corruptGguf(
      `${path}: is a Git LFS pointer, not the weights`,
      'Fetch the file itself: git lfs pull.',
    );
  }
  if (magic !== 'GGUF') {
    throw corruptGguf(`${path}: begins with ${JSON.stringify(magic)}, not with "GGUF"`, 'Give a GGUF file.');
  }
  const version = cursor.number('u32', 'the version');
  if (version === 2 || version === 3) return version;
  const bigEndian = version !== 0 && version % 2 ** 24 === 0;
  throw corruptGguf(
    bigEndian
      ? `${path}: is big-endian`
      : `${path}: has version ${version} of the format; 2 and 3 are supported`,
    'Convert the model again with a recent llama.cpp, on a machine with little-endian numbers.',
  );
}

/**
 * Parses and checks the header of a file of `fileBytes` bytes.
 *
 * @param bytes the file's beginning.
 * @throws MoreBytesNeeded if the header is longer than `bytes`; RmError CHECKPOINT_CORRUPT naming file and place.
 */
export function parseGgufHeader(bytes: Uint8Array, fileBytes: number, path: string): GgufHeader {
  const cursor = new Cursor(bytes, fileBytes, path);
  const version = checkStart(cursor);
  // A tensor's description takes at least 32 bytes, a metadata entry at least 14.
  const tensorCount = cursor.count(32, 'the number of tensors');
  const entryCount = cursor.count(14, 'the number of metadata entries');
  const metadata = new Map<string, GgufEntry>();
  for (let i = 0; i < entryCount; i++) {
    const [key, entry] = readEntry(cursor);
    if (metadata.has(key)) throw corruptGguf(`${path}: metadata ${JSON.stringify(key)} appears twice`);
    metadata.set(key, entry);
  }
  const alignment = alignmentOf(metadata, path);
  const tensors: GgufTensor[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensor(cursor);
    if (names.has(tensor.name)) {
      throw corruptGguf(`${path}: tensor ${JSON.stringify(tensor.name)} appears twice`);
    }
    names.add(tensor.name);
    tensors.push(tensor);
  }
  return { version, alignment, metadata, tensors: placed(tensors, cursor.at, alignment, cursor) };
}
