import { elementCount, ensure } from '../../engine/index.js';
import { type TensorBytes, writeTensorFile } from '../checkpoint/tensorFile.js';
import type { GgmlType } from './tensorTypes.js';
import { type GgufValue, numberToBytes, type ValueType, valueTypes } from './values.js';

/** A tensor to write; its `bytes`, encoded as `type`, are read once. */
export interface GgufTensorSource {
  readonly name: string;
  readonly type: GgmlType;
  /** Row-major. */
  readonly shape: readonly number[];
  readonly bytes: TensorBytes;
}

/** Metadata to write; entries read from a file keep their original bytes. */
export type WrittenMetadata = ReadonlyMap<string, GgufValue & { readonly bytes?: Uint8Array }>;

/** Alignment of tensors; llama.cpp's default. */
const ALIGNMENT = 32;
const VERSION = 3;

const u32 = (value: number) => numberToBytes(value, 'u32');
const u64 = (value: number) => numberToBytes(value, 'u64');

function stringBytes(text: string): Uint8Array[] {
  const bytes = new TextEncoder().encode(text);
  return [u64(bytes.byteLength), bytes];
}

function valueBytes(type: ValueType, value: unknown): Uint8Array[] {
  if (type === 'string') return stringBytes(value as string);
  if (type === 'bool') return [Uint8Array.of(value ? 1 : 0)];
  if (type !== 'array') return [numberToBytes(value as number, type)];
  const { of, length, values } = value as Extract<GgufValue, { type: 'array' }>['value'];
  return [u32(valueTypes.indexOf(of)), u64(length), ...values().flatMap(element => valueBytes(of, element))];
}

function entryBytes(key: string, entry: GgufValue & { readonly bytes?: Uint8Array }): Uint8Array[] {
  if (entry.bytes) return [entry.bytes];
  return [...stringBytes(key), u32(valueTypes.indexOf(entry.type)), ...valueBytes(entry.type, entry.value)];
}

const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/** Bytes of a tensor in the file, without padding. */
export const ggufTensorBytes = ({ type, shape }: GgufTensorSource): number =>
  (elementCount(shape) / type.blockSize) * type.blockBytes;

function headerOf(metadata: WrittenMetadata, tensors: readonly GgufTensorSource[]): Uint8Array {
  const parts = [new TextEncoder().encode('GGUF'), u32(VERSION), u64(tensors.length), u64(metadata.size)];
  for (const [key, entry] of metadata) for (const part of entryBytes(key, entry)) parts.push(part);
  let offset = 0;
  for (const tensor of tensors) {
    parts.push(...stringBytes(tensor.name), u32(tensor.shape.length));
    parts.push(...[...tensor.shape].reverse().map(u64), u32(tensor.type.id), u64(offset));
    offset += aligned(ggufTensorBytes(tensor));
  }
  const length = parts.reduce((sum, part) => sum + part.byteLength, 0);
  const header = new Uint8Array(aligned(length));
  let at = 0;
  for (const part of parts) {
    header.set(part, at);
    at += part.byteLength;
  }
  return header;
}

/**
 * Writes a GGUF file of version 3, tensor by tensor. The alignment is 32, so the metadata must not set `general.alignment`.
 *
 * @throws RmError OUTPUT_FAILED if the disk is full or the write fails, INVALID_ARGUMENT for a tensor that does not fit its
 *   type.
 */
export async function writeGgufFile(
  path: string,
  metadata: WrittenMetadata,
  tensors: readonly GgufTensorSource[],
  onTensor: (tensor: GgufTensorSource) => void = () => {},
): Promise<void> {
  const seen = new Set<string>();
  for (const { name, type, shape } of tensors) {
    ensure(
      !seen.has(name),
      `two tensors are called ${JSON.stringify(name)}`,
      'Give every tensor its own name.',
    );
    seen.add(name);
    ensure(
      (shape.at(-1) ?? 0) % type.blockSize === 0,
      `tensor ${name}: rows of ${shape.at(-1)} are not whole blocks of ${type.name}`,
      'Choose a type without blocks.',
    );
  }
  await writeTensorFile(path, headerOf(metadata, tensors), tensors, {
    byteLength: ggufTensorBytes,
    alignment: ALIGNMENT,
    onTensor,
  });
}
