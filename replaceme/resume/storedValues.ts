import {
  asBytes,
  byteSize,
  type Device,
  type DType,
  downloadPieces,
  elementCount,
  RmError,
  type StoredTensor,
  Tensor,
  uploadPieces,
} from '../../engine/index.js';
import { SpilledTensor, type SpillFile } from '../../model/index.js';

/** Bytes, piece by piece. */
export type Pieces = () => AsyncIterable<Uint8Array>;

/** Keeps bytes that are too many for JSON. */
export interface Bytes {
  /** Keeps bytes and returns their name. */
  put(pieces: Pieces): Promise<string>;
  /** The bytes of a name, in pieces. @throws RmError DATA_INVALID where they have changed. */
  get(name: string, byteLength: number): AsyncIterable<Uint8Array>;
}

/** A value in JSON; arrays and tensors are represented by the names of their bytes. */
export type Stored =
  | string
  | number
  | boolean
  | null
  | readonly Stored[]
  | { readonly [key: string]: Stored };

/** Up to this size the JSON contains the bytes themselves: fewer files to wait for. */
const INLINE_BYTES = 2 ** 14;

/** The typed arrays that can be kept. */
export const arrays = {
  Uint8Array,
  Uint16Array,
  Uint32Array,
  Int32Array,
  Float32Array,
  Float64Array,
} as const;
type ArrayName = keyof typeof arrays;

/** The place of bytes: the name of a file, or the bytes here in base64. */
type Place = { readonly place: 'file' | 'here'; readonly bytes: string };

interface TensorFields {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly label: string;
  /** Within one value, tensors with the same index are the same tensor. */
  readonly index: number;
}

type TensorPlace = TensorFields & Place;
type SpilledPlace = Pick<TensorFields, 'shape' | 'dtype'> & { readonly byteLength: number } & Place;
type ArrayPlace = { readonly type: ArrayName; readonly byteLength: number } & Place;

async function* onePiece(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}

/**
 * Converts a value to JSON, bit for bit: including NaN, infinities, -0 and undefined, Maps, typed arrays, and tensors on
 * the device or spilled to the disk.
 *
 * @throws Error for any other value: a mistake in the program.
 */
export async function stored(value: unknown, bytes: Bytes): Promise<Stored> {
  const tensors = new Map<Tensor, Stored>();
  const each = async (part: unknown): Promise<Stored> => {
    if (part === undefined) return { $undefined: true };
    if (part === null || typeof part === 'string' || typeof part === 'boolean') return part;
    if (typeof part === 'number') {
      return Number.isFinite(part) && !Object.is(part, -0)
        ? part
        : { $number: Object.is(part, -0) ? '-0' : `${part}` };
    }
    if (Array.isArray(part)) return await list(part);
    if (part instanceof Map) return { $map: await list([...part].flat(1)) };
    if (part instanceof Tensor) {
      const earlier = tensors.get(part);
      if (earlier) return earlier;
      const fields = { shape: [...part.shape], dtype: part.dtype, label: part.label, index: tensors.size };
      const place = await placed(part.byteLength, () => downloadPieces(part));
      const tagged = { $tensor: { ...fields, ...place } };
      tensors.set(part, tagged);
      return tagged;
    }
    if (part instanceof SpilledTensor) {
      const { shape, dtype, byteLength } = part;
      const place = await placed(byteLength, () => part.pieces());
      return { $spilled: { shape: [...shape], dtype, byteLength, ...place } };
    }
    if (ArrayBuffer.isView(part)) {
      const [type, raw] = [part.constructor.name, asBytes(part)];
      if (!Object.hasOwn(arrays, type)) throw new Error(`a ${type} cannot be kept`);
      return {
        $array: { type, byteLength: raw.byteLength, ...(await placed(raw.byteLength, () => onePiece(raw))) },
      };
    }
    if (typeof part === 'object' && [Object.prototype, null].includes(Object.getPrototypeOf(part))) {
      const fields: Record<string, Stored> = {};
      for (const [key, field] of Object.entries(part)) {
        if (key.startsWith('$')) throw new Error(`a field "${key}" cannot be kept`);
        fields[key] = await each(field);
      }
      return fields;
    }
    throw new Error(`${typeof part} ${String(part)} cannot be kept`);
  };
  const placed = async (byteLength: number, pieces: Pieces): Promise<Place> => {
    if (byteLength > INLINE_BYTES) return { place: 'file', bytes: await bytes.put(pieces) };
    const all: Uint8Array[] = [];
    for await (const piece of pieces()) all.push(piece);
    return { place: 'here', bytes: Buffer.concat(all).toString('base64') };
  };
  const list = async (parts: readonly unknown[]): Promise<Stored[]> => {
    const values: Stored[] = [];
    for (const part of parts) values.push(await each(part));
    return values;
  };
  return await each(value);
}

/** The bytes of a place, in pieces. */
const piecesAt = ({ place, bytes }: Place, byteLength: number, files: Bytes): AsyncIterable<Uint8Array> =>
  place === 'file' ? files.get(bytes, byteLength) : onePiece(Uint8Array.from(Buffer.from(bytes, 'base64')));

/** The names of all files that a stored value needs. */
export function* namesIn(value: Stored): Generator<string> {
  if (typeof value !== 'object' || value === null) return;
  if (Array.isArray(value)) {
    for (const part of value) yield* namesIn(part);
    return;
  }
  const { $tensor, $spilled, $array } = value as { $tensor?: Place; $spilled?: Place; $array?: Place };
  const place = $tensor ?? $spilled ?? $array;
  if (place?.place === 'file') yield place.bytes;
  else if (!place) for (const part of Object.values(value)) yield* namesIn(part);
}

/** Where stored values go: to the device, and spilled tensors to a file. */
export interface RestoreDestination {
  readonly device: Device;
  readonly spillFile: SpillFile;
}

/** The inverse of `stored`, with a `StoredTensor` for every tensor on the device. */
export async function restored(value: Stored, bytes: Bytes, to: RestoreDestination): Promise<unknown> {
  const { device, spillFile } = to;
  const tensors = new Map<number, StoredTensor>();
  const each = async (part: Stored): Promise<unknown> => {
    if (typeof part !== 'object' || part === null) return part;
    if (Array.isArray(part)) return await list(part);
    const tagged = part as { readonly [key: string]: Stored };
    if (tagged.$undefined) return undefined;
    if (typeof tagged.$number === 'string') return tagged.$number === '-0' ? -0 : Number(tagged.$number);
    if (tagged.$map) {
      const flat = await list(tagged.$map as readonly Stored[]);
      return new Map(flat.flatMap((key, i) => (i % 2 === 0 ? [[key, flat[i + 1]] as const] : [])));
    }
    if (tagged.$tensor) {
      const fields = tagged.$tensor as unknown as TensorPlace;
      const tensor = tensors.get(fields.index) ?? storedTensor(fields, bytes, device);
      tensors.set(fields.index, tensor);
      return tensor;
    }
    if (tagged.$spilled) {
      const fields = tagged.$spilled as unknown as SpilledPlace;
      return await spillFile.addBytes(fields.shape, fields.dtype, piecesAt(fields, fields.byteLength, bytes));
    }
    if (tagged.$array) return await storedArray(tagged.$array as unknown as ArrayPlace, bytes);
    const fields: Record<string, unknown> = {};
    for (const [key, field] of Object.entries(tagged)) fields[key] = await each(field);
    return fields;
  };
  const list = async (parts: readonly Stored[]): Promise<unknown[]> => {
    const values: unknown[] = [];
    for (const part of parts) values.push(await each(part));
    return values;
  };
  return await each(value);
}

/** Like `restored`, with tensors on the device, which the caller owns. @throws RmError OUT_OF_MEMORY. */
export async function loaded(value: Stored, bytes: Bytes, to: RestoreDestination): Promise<unknown> {
  const tensors = new Map<StoredTensor, Tensor>();
  const each = async (part: unknown): Promise<unknown> => {
    if (isStoredTensor(part)) {
      const tensor = tensors.get(part) ?? (await part.load());
      tensors.set(part, tensor);
      return tensor;
    }
    if (Array.isArray(part)) {
      for (const [i, element] of part.entries()) part[i] = await each(element);
    } else if (part instanceof Map) {
      for (const [key, element] of part) part.set(key, await each(element));
    } else if (isPlain(part)) {
      const fields = part as Record<string, unknown>;
      for (const [key, field] of Object.entries(fields)) fields[key] = await each(field);
    }
    return part;
  };
  try {
    return await each(await restored(value, bytes, to));
  } catch (error) {
    for (const tensor of tensors.values()) tensor.dispose();
    throw error;
  }
}

/** All tensors in a value. */
export function* tensorsIn(value: unknown): Generator<Tensor> {
  if (value instanceof Tensor) yield value;
  else if (value instanceof Map || Array.isArray(value))
    for (const part of value.values()) yield* tensorsIn(part);
  else if (isPlain(value)) for (const part of Object.values(value)) yield* tensorsIn(part);
}

const isPlain = (value: unknown): value is object =>
  typeof value === 'object' &&
  value !== null &&
  !ArrayBuffer.isView(value) &&
  !(value instanceof SpilledTensor);

class KeptTensor implements StoredTensor {
  readonly shape: readonly number[];
  readonly dtype: DType;

  constructor(
    private readonly fields: TensorPlace,
    private readonly bytes: Bytes,
    private readonly device: Device,
  ) {
    this.shape = fields.shape;
    this.dtype = fields.dtype;
  }

  async load(): Promise<Tensor> {
    const tensor = Tensor.create(this.device, this.shape, this.dtype, this.fields.label);
    try {
      await this.into(tensor);
      return tensor;
    } catch (error) {
      tensor.dispose();
      throw error;
    }
  }

  async into(tensor: Tensor): Promise<void> {
    if (`${tensor.shape}` !== `${this.shape}` || tensor.dtype !== this.dtype) {
      throw changed(`a tensor is ${this.dtype} [${this.shape}] instead of ${tensor.dtype} [${tensor.shape}]`);
    }
    const byteLength = elementCount(this.shape) * byteSize(this.dtype);
    await uploadPieces(tensor, piecesAt(this.fields, byteLength, this.bytes));
  }
}

const storedTensor = (fields: TensorPlace, bytes: Bytes, device: Device): StoredTensor =>
  new KeptTensor(fields, bytes, device);

const isStoredTensor = (value: unknown): value is StoredTensor => value instanceof KeptTensor;

async function storedArray(fields: ArrayPlace, bytes: Bytes): Promise<ArrayBufferView> {
  let raw = new Uint8Array(0);
  let at = 0;
  for await (const piece of piecesAt(fields, fields.byteLength, bytes)) {
    // A first piece comes only where there are as many bytes.
    if (at === 0) raw = new Uint8Array(fields.byteLength);
    raw.set(piece, at);
    at += piece.byteLength;
  }
  const View = arrays[fields.type];
  return new View(raw.buffer, 0, raw.byteLength / View.BYTES_PER_ELEMENT);
}

/** The error for a checkpoint whose contents have changed. */
export const changed = (problem: string, cause?: unknown): RmError =>
  new RmError(
    'DATA_INVALID',
    `the checkpoint of this run is damaged: ${problem}`,
    'Give `restart` to discard it and start again.',
    { cause },
  );
