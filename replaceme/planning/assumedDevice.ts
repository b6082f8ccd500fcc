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
import { type Card, cards } from './cards.js';

/** A device that is not here, as its user describes it. */
export interface DescribedDevice {
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

/** A device that is not here, as plans need to know it: a card by its data sheet, or as described. */
export type AssumedDevice = DescribedDevice | (Card & { readonly hostMemory?: never });

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
