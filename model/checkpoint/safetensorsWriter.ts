import { join } from 'node:path';
import {
  callable,
  checkArguments,
  type DType,
  dtypes,
  elementCount,
  ensure,
  finite,
  listOf,
  oneOf,
  optional,
  record,
  tableOf,
  text,
  whole,
} from '../../engine/index.js';
import { aPath, manyThings, maybeFunction, settingsAmong } from '../arguments/forms.js';
import { writeOutputFile } from '../files/outputError.js';
import type { OpaqueTensor } from './checkpoint.js';
import { storageBits } from './safetensorsHeader.js';
import { type FileTensor, writeTensorFile } from './tensorFile.js';

/** A tensor to write; its `bytes`, little-endian and row-major, are read once. */
export interface TensorSource extends FileTensor {
  readonly dtype: DType | Pick<OpaqueTensor, 'storage'>;
}

const aTensorSource = record({
  name: text,
  shape: listOf(whole()),
  dtype: (value, place) =>
    typeof value === 'string' ? oneOf(...dtypes)(value, place) : record({ storage: text })(value, place),
  bytes: callable,
});

/** Settings of `writeSafetensors`. */
export interface WriteOptions {
  /** Most data bytes per shard (default: 5e9, as in transformers and mergekit). */
  readonly maxShardBytes?: number;
  /** Called after every tensor with the bytes written so far and in total. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

const storages: Readonly<Record<DType, string>> = { f32: 'F32', f16: 'F16', bf16: 'BF16', u32: 'U32' };

const storageOf = ({ dtype }: TensorSource): string =>
  typeof dtype === 'string' ? storages[dtype] : dtype.storage;

const bitsOf = (tensor: TensorSource): number => storageBits[storageOf(tensor)]!;

const byteLength = (tensor: TensorSource): number => (elementCount(tensor.shape) * bitsOf(tensor)) / 8;

/** The metadata strings of a safetensors header. */
export type Metadata = Readonly<Record<string, string>>;

/** The length and the JSON header of a file with these tensors in this order. */
export function tensorHeader(tensors: readonly TensorSource[], metadata: Metadata): Uint8Array {
  const header: [string, unknown][] = [['__metadata__', metadata]];
  let begin = 0;
  for (const tensor of tensors) {
    const end = begin + byteLength(tensor);
    header.push([tensor.name, { dtype: storageOf(tensor), shape: tensor.shape, data_offsets: [begin, end] }]);
    begin = end;
  }
  const json = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const padded = Math.ceil(json.byteLength / 8) * 8;
  const bytes = Buffer.alloc(8 + padded, ' ');
  bytes.writeBigUInt64LE(BigInt(padded), 0);
  json.copy(bytes, 8);
  return bytes;
}

/**
 * Writes one safetensors file, tensor by tensor. Wider types come first, so that every tensor stays aligned to its
 * element size, as readers that map the file require.
 *
 * @throws RmError OUTPUT_FAILED if the disk is full or the write fails.
 */
export async function writeSafetensorsFile(
  path: string,
  tensors: readonly TensorSource[],
  onTensor: (tensor: TensorSource) => void = () => {},
  metadata: Metadata = { format: 'pt' },
): Promise<void> {
  checkArguments(
    'writeSafetensorsFile',
    { path, tensors, onTensor, metadata },
    { path: aPath, tensors: listOf(aTensorSource), onTensor: callable, metadata: tableOf(text) },
  );
  checkSources(tensors);
  const ordered = [...tensors].sort((a, b) => bitsOf(b) - bitsOf(a));
  await writeTensorFile(path, tensorHeader(ordered, metadata), ordered, { byteLength, onTensor });
}

function checkSources(tensors: readonly TensorSource[]): void {
  const seen = new Set<string>(['__metadata__']);
  for (const { name } of tensors) {
    ensure(
      !seen.has(name),
      `two tensors are called ${JSON.stringify(name)}`,
      'Give every tensor its own name.',
    );
    seen.add(name);
  }
}

function shard(tensors: readonly TensorSource[], maxShardBytes: number): TensorSource[][] {
  const shards: TensorSource[][] = [[]];
  let filled = 0;
  for (const tensor of tensors) {
    const bytes = byteLength(tensor);
    if (filled > 0 && filled + bytes > maxShardBytes) {
      shards.push([]);
      filled = 0;
    }
    shards.at(-1)!.push(tensor);
    filled += bytes;
  }
  return shards;
}

/**
 * Writes weights as transformers reads them: model.safetensors, or shards of at most `maxShardBytes` (a larger tensor gets
 * its own shard) with model.safetensors.index.json. Holds one tensor, or a piece of one, in memory at a time.
 *
 * @returns the names of the written files.
 * @throws RmError OUTPUT_FAILED if the disk is full or the write fails.
 */
export async function writeSafetensors(
  folder: string,
  tensors: Iterable<TensorSource> | AsyncIterable<TensorSource>,
  options: WriteOptions = {},
): Promise<string[]> {
  checkArguments(
    'writeSafetensors',
    { folder, tensors, options },
    {
      folder: aPath,
      tensors: manyThings,
      options: settingsAmong<WriteOptions>({ maxShardBytes: optional(finite(1)), onProgress: maybeFunction }),
    },
  );
  const { maxShardBytes = 5e9, onProgress = () => {} } = options;
  const all: TensorSource[] = [];
  for await (const tensor of tensors) {
    checkArguments('writeSafetensors', { tensor }, { tensor: aTensorSource });
    all.push(tensor);
  }
  checkSources(all);
  const totalBytes = all.reduce((sum, tensor) => sum + byteLength(tensor), 0);
  const shards = shard(all, maxShardBytes);
  const number = (index: number) => String(index).padStart(5, '0');
  const names =
    shards.length === 1
      ? ['model.safetensors']
      : shards.map((_, i) => `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`);
  let done = 0;
  for (const [i, name] of names.entries()) {
    await writeSafetensorsFile(join(folder, name), shards[i]!, tensor => {
      done += byteLength(tensor);
      onProgress(done, totalBytes);
    });
  }
  if (names.length === 1) return names;

  const shardOf = shards.flatMap((part, i) => part.map(tensor => [tensor.name, names[i]!] as const));
  const index = {
    metadata: { total_size: totalBytes },
    weight_map: Object.fromEntries(shardOf.sort(([a], [b]) => (a < b ? -1 : 1))),
  };
  const indexName = 'model.safetensors.index.json';
  await writeOutputFile(join(folder, indexName), `${JSON.stringify(index, null, 2)}\n`);
  return [...names, indexName];
}
