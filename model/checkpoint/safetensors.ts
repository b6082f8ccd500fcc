import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { checkArguments, type DType, RmError } from '../../engine/index.js';
import { aPath } from '../arguments/forms.js';
import { isRecord, readJsonFileIfPresent } from '../files/jsonFile.js';
import { type Checkpoint, type OpaqueTensor, requireRange, type TensorInfo } from './checkpoint.js';
import { filled, openWeightFile, readAt, readInto } from './fileReads.js';
import { missingFile } from './missingFile.js';
import {
  corrupt,
  headerLength,
  PREFIX_BYTES,
  parseHeader,
  type SafetensorsEntry,
} from './safetensorsHeader.js';

const dtypes: Readonly<Record<string, DType>> = { F32: 'f32', F16: 'f16', BF16: 'bf16', U32: 'u32' };

/** One open safetensors file: its parsed header and positioned reads. Also holds types that no kernel reads (I64, F64 ...). */
export interface SafetensorsFile {
  readonly path: string;
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  readonly metadata: Readonly<Record<string, string>>;
  read(entry: SafetensorsEntry, byteStart: number, byteLength: number): Promise<Uint8Array>;
  readInto(entry: SafetensorsEntry, byteStart: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** Opens one file and checks its whole header. @throws RmError CHECKPOINT_MISSING, CHECKPOINT_CORRUPT. */
export async function openSafetensorsFile(path: string): Promise<SafetensorsFile> {
  const { file, size } = await openWeightFile(path);
  try {
    const length = headerLength(await readAt(file, path, 0, Math.min(PREFIX_BYTES, size)), size, path);
    const { entries, metadata } = parseHeader(await readAt(file, path, 8, length), size, path);
    return {
      path,
      entries: new Map(entries.map(entry => [entry.name, entry])),
      metadata,
      read: (entry, byteStart, byteLength) => readAt(file, path, entry.begin + byteStart, byteLength),
      readInto: (entry, byteStart, target) => readInto(file, path, entry.begin + byteStart, target),
      close: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

class SafetensorsCheckpoint implements Checkpoint {
  readonly names: readonly string[];
  readonly totalBytes: number;

  constructor(
    readonly path: string,
    private readonly files: readonly SafetensorsFile[],
    private readonly fileOf: ReadonlyMap<string, SafetensorsFile>,
  ) {
    this.names = [...fileOf.keys()];
    this.totalBytes = this.names.reduce(
      (sum, name) => sum + this.entry(name).end - this.entry(name).begin,
      0,
    );
  }

  private entry(name: string): SafetensorsEntry {
    const entry = this.fileOf.get(name)?.entries.get(name);
    if (!entry) {
      throw corrupt(
        `${this.path}: has no tensor ${JSON.stringify(name)}`,
        'The checkpoint and config.json do not belong together, or a file is missing: download the model again.',
      );
    }
    return entry;
  }

  has(name: string): boolean {
    return this.fileOf.has(name);
  }

  opaque(name: string): OpaqueTensor | undefined {
    const { storage, shape, begin, end } = this.entry(name);
    return Object.hasOwn(dtypes, storage) ? undefined : { storage, shape, byteLength: end - begin };
  }

  info(name: string): TensorInfo {
    const { storage, shape, begin, end } = this.entry(name);
    const dtype = dtypes[storage];
    if (!dtype) {
      throw new RmError(
        'UNSUPPORTED_DTYPE',
        `${this.fileOf.get(name)!.path}: tensor ${JSON.stringify(name)} is stored as ${storage}`,
        'Save the model in another number type with transformers: model.to(torch.float32).save_pretrained(folder).',
      );
    }
    return { name, dtype, shape: [...shape], byteLength: end - begin };
  }

  read(name: string): Promise<Uint8Array> {
    const { begin, end } = this.entry(name);
    return this.readRange(name, 0, end - begin);
  }

  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    return filled(byteLength, target => this.readInto(name, byteStart, target));
  }

  async readInto(name: string, byteStart: number, target: Uint8Array): Promise<void> {
    const { begin, end } = this.entry(name);
    requireRange(name, end - begin, byteStart, target.byteLength);
    await this.fileOf.get(name)!.readInto(this.entry(name), byteStart, target);
  }

  async close(): Promise<void> {
    await Promise.all(this.files.map(file => file.close()));
  }
}

/** Reads weight_map of an index: tensor name -> shard. Rejects shard names with a path: they could leave the model's folder. */
async function readIndex(path: string): Promise<Map<string, string> | undefined> {
  const index = await readJsonFileIfPresent(path);
  if (index === undefined) return undefined;
  const map = isRecord(index) ? index.weight_map : undefined;
  if (!isRecord(map)) throw corrupt(`${path}: has no object "weight_map"`);
  for (const [name, shard] of Object.entries(map)) {
    if (typeof shard !== 'string' || !/^[^/\\:\0]+\.safetensors$/.test(shard)) {
      throw corrupt(
        `${path}: tensor ${JSON.stringify(name)} is in ${JSON.stringify(shard)}, which is not the file name of a shard`,
        'Shards are plain *.safetensors names beside the index: download the index again.',
      );
    }
  }
  return new Map(Object.entries(map) as [string, string][]);
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Which weights of a folder are read, and the weights of other versions of the model among its files `names`. */
export async function leftoverShards(
  folder: string,
  names: readonly string[],
): Promise<{ read: string; left: string[] }> {
  const shards = names.filter(name => /^model-\d{5,}-of-\d{5,}\.safetensors$/.test(name));
  if (names.includes(SINGLE)) {
    return { read: SINGLE, left: [...names.filter(name => name === INDEX), ...shards] };
  }
  const named = new Set((await readIndex(join(folder, INDEX)))?.values());
  return { read: INDEX, left: named.size === 0 ? [] : shards.filter(name => !named.has(name)) };
}

/** The error for a shard that the index names and the folder lacks. */
async function missingShard(
  folder: string,
  shard: string,
  index: ReadonlyMap<string, string>,
  cause: RmError,
): Promise<RmError> {
  const named = new Set(index.values());
  const names = await readdir(folder).catch(() => [] as string[]);
  const gone = [...named].filter(name => !names.includes(name));
  const others = names.filter(name => name.endsWith('.safetensors') && !named.has(name)).sort();
  const beside =
    others.length === 0
      ? ''
      : `; ${others.length} other weight files are there (for example ${others[0]}), perhaps of another version`;
  const count = gone.length > 1 ? `, one of ${gone.length} that are missing` : '';
  return new RmError(
    'CHECKPOINT_MISSING',
    `${cause.message} (named by ${join(folder, INDEX)}${count})${beside}`,
    others.length === 0
      ? `Download ${gone.length > 1 ? 'them' : shard} again.`
      : 'Download the model again, index and weights together.',
    { cause },
  );
}

/** Adds the tensors of shards that the index leaves out, which transformers reads too. */
function addUnnamed(fileOf: Map<string, SafetensorsFile>, files: Iterable<SafetensorsFile>): void {
  for (const file of files) {
    for (const name of file.entries.keys()) {
      const other = fileOf.get(name) ?? file;
      if (other !== file) {
        throw corrupt(
          `${file.path}: tensor ${JSON.stringify(name)} is also in ${other.path}`,
          'Loaders differ in which they take: download the model again, index and weights together.',
        );
      }
      fileOf.set(name, file);
    }
  }
}

async function openSharded(folder: string, index: ReadonlyMap<string, string>, indexPath: string) {
  const files = new Map<string, SafetensorsFile>();
  try {
    for (const shard of new Set(index.values())) {
      try {
        files.set(shard, await openSafetensorsFile(join(folder, shard)));
      } catch (error) {
        if (!(error instanceof RmError) || error.code !== 'CHECKPOINT_MISSING') throw error;
        throw await missingShard(folder, shard, index, error);
      }
    }
    const fileOf = new Map<string, SafetensorsFile>();
    for (const [name, shard] of index) {
      const file = files.get(shard)!;
      if (!file.entries.has(name)) {
        throw corrupt(
          `${file.path}: has no tensor ${JSON.stringify(name)}, although ${indexPath} places it there`,
        );
      }
      fileOf.set(name, file);
    }
    addUnnamed(fileOf, files.values());
    return new SafetensorsCheckpoint(folder, [...files.values()], fileOf);
  } catch (error) {
    for (const file of files.values()) await file.close();
    throw error;
  }
}

async function openSingle(path: string, file: string): Promise<Checkpoint> {
  const opened = await openSafetensorsFile(file);
  return new SafetensorsCheckpoint(
    path,
    [opened],
    new Map([...opened.entries.keys()].map(name => [name, opened])),
  );
}

/**
 * Opens the safetensors weights of a model folder: model.safetensors, or model.safetensors.index.json and its shards.
 * Accepts a single *.safetensors file too. Checks all headers now; reads tensor bytes on demand.
 *
 * @throws RmError CHECKPOINT_MISSING or CHECKPOINT_CORRUPT naming file and tensor.
 */
export async function openSafetensors(folder: string): Promise<Checkpoint> {
  checkArguments('openSafetensors', { folder }, { folder: aPath });
  const stats = await stat(folder).catch(() => undefined);
  if (stats?.isFile()) return openSingle(folder, folder);
  // As in transformers, a single file wins over an index.
  const single = join(folder, SINGLE);
  if (await stat(single).catch(() => undefined)) return openSingle(folder, single);
  const indexPath = join(folder, INDEX);
  const index = await readIndex(indexPath);
  if (!index) throw await missingFile(folder, `${SINGLE} or its index`);
  return openSharded(folder, index, indexPath);
}
