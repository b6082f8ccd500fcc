import {
  type DeviceFacts,
  ensure,
  entryOf,
  type Form,
  finite,
  limitOf,
  optional,
  RmError,
  readForm,
  record,
  text,
} from '../../engine/index.js';
import { readJsonFileIfPresent } from '../../model/index.js';
import { byteCount } from '../options/valueTypes.js';

/** A device that is not here, as plans need to know it. */
export interface AssumedDevice {
  readonly name: string;
  /** Bytes of memory, all of them free. */
  readonly memory: number;
  /** What a matrix product in f32 reaches, in GFLOP/s. */
  readonly matmulGflops: number;
  /** Host to device. */
  readonly uploadGigabytes: number;
  /** Bytes of the host's memory; undefined: enough. */
  readonly hostMemory?: number;
}

const MIB = 2 ** 20;

/**
 * Cards by short names. Memory as their driver states it; rates are guesses: 57 % of the data sheet's f32 rate, which plain
 * WGSL has reached on other GPUs, and uploads of 4 GB/s.
 */
const cards: Readonly<Record<string, AssumedDevice>> = Object.fromEntries(
  (
    [
      ['h200', 'NVIDIA H200', 143_771, 67],
      ['h100', 'NVIDIA H100 80GB HBM3', 81_559, 67],
      ['a100', 'NVIDIA A100-SXM4-80GB', 81_920, 19.5],
      ['l40s', 'NVIDIA L40S', 46_068, 91.6],
      ['4090', 'NVIDIA GeForce RTX 4090', 24_564, 82.6],
      ['3090', 'NVIDIA GeForce RTX 3090', 24_576, 35.6],
    ] as const
  ).map(([key, name, mebibytes, teraflops]) => [
    key,
    {
      ...{ name, memory: mebibytes * MIB },
      ...{ matmulGflops: Math.round(570 * teraflops), uploadGigabytes: 4 },
    },
  ]),
);

/** Bytes, as a number or as people write them. */
const bytes: Form<string | number> = (value, place) => {
  const read = typeof value === 'string' ? byteCount.read(value) : value;
  return typeof read === 'number' && byteCount.accepts(read)
    ? undefined
    : `${place} is not ${byteCount.needs}`;
};

const bytesOf = (value: string | number): number =>
  typeof value === 'string' ? byteCount.read(value)! : value;

const rate = finite(Number.MIN_VALUE);
const fileForm = record({
  ...{ name: text, memory: bytes, matmulGflops: rate, uploadGigabytes: rate },
  hostMemory: optional(bytes),
});

/**
 * A card by its short name, or from a JSON file: {"name", "memory": "24GB", "matmulGflops", "uploadGigabytes"} and, where the
 * host's memory matters, "hostMemory".
 *
 * @throws RmError INVALID_ARGUMENT for a name that is neither a card nor a file, DATA_INVALID for a file of another form.
 */
export async function assumedDevice(nameOrFile: string): Promise<AssumedDevice> {
  const card = entryOf(cards, nameOrFile.toLowerCase());
  if (card) return card;
  const content = await readJsonFileIfPresent(nameOrFile);
  ensure(
    content !== undefined,
    `'${nameOrFile}' is neither a card that is known (${Object.keys(cards).join(', ')}) nor a file`,
    'Name one of these, or give a JSON file with name, memory, matmulGflops and uploadGigabytes.',
  );
  const form = readForm(
    content,
    fileForm,
    problem =>
      new RmError(
        'DATA_INVALID',
        `${nameOrFile}: ${problem}`,
        'Give name, memory, matmulGflops and uploadGigabytes (and hostMemory).',
      ),
  );
  const { memory, hostMemory, ...rest } = form;
  return {
    ...rest,
    memory: bytesOf(memory),
    ...(hostMemory !== undefined && { hostMemory: bytesOf(hostMemory) }),
  };
}

/** The device as plans read it. @param memoryLimit the user's (default: 0.9 of the memory). */
export const factsOf = (
  { name, memory, hostMemory = Number.POSITIVE_INFINITY }: AssumedDevice,
  memoryLimit?: number,
): DeviceFacts => ({
  info: { kind: 'gpu', description: `${name} (assumed)` },
  // NVIDIA's: 2 GiB, and a word less.
  limits: { maxStorageBufferBindingSize: 2 ** 31 - 4 },
  memory: { limit: memoryLimit ?? limitOf({ total: memory, free: memory }) },
  host: { free: hostMemory, shared: false },
});
