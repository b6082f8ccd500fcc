import type { Random } from '../random.js';
import type { Mutator } from '../target.js';
import { mutateBytes } from './bytes.js';
import { jsonMutator } from './json.js';

const types = ['F64', 'F32', 'F16', 'BF16', 'I64', 'U32', 'BOOL', 'F8_E4M3', 'F4', 'F6_E2M3', 'f32', 'Q4_0'];
const mutateHeader = jsonMutator([...types, '__metadata__', 'shape', 'dtype', 'data_offsets']);

/** Splits a file into header and data; undefined where the length is wrong. */
export function splitSafetensors(input: Uint8Array): { header: Uint8Array; data: Uint8Array } | undefined {
  if (input.length < 8) return undefined;
  const length = new DataView(input.buffer, input.byteOffset).getBigUint64(0, true);
  if (length > BigInt(input.length - 8)) return undefined;
  const end = 8 + Number(length);
  return { header: input.subarray(8, end), data: input.subarray(end) };
}

export function joinSafetensors(header: Uint8Array, data: Uint8Array, length = header.length): Uint8Array {
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(length));
  return Buffer.concat([prefix, header, data]);
}

/** Changes the JSON header of a safetensors file by `change`; now and then any bytes, the header's length or the data. */
export const safetensorsMutator =
  (change: Mutator = mutateHeader): Mutator =>
  (input, random) => {
    const parts = splitSafetensors(input);
    if (!parts || random.chance(0.2)) return mutateBytes(input, random);
    const header = change(parts.header, random);
    return joinSafetensors(header, dataFor(parts.data, random), lengthFor(header.length, random));
  };

const lengthFor = (length: number, random: Random): number =>
  random.chance(0.05) ? random.pick([0, 1, Math.max(0, length - 1), length + 1, 1e8, 2 ** 52]) : length;

const dataFor = (data: Uint8Array, random: Random): Uint8Array =>
  random.chance(0.05) ? mutateBytes(data, random) : data;
