import type { Random } from '../random.js';
import type { Mutator } from '../target.js';

/** Longest input that a mutation makes. */
const LONGEST = 1 << 20;

const extremes = [
  ...[0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0x7fffn, 0xffffn, 0x7fffffffn, 0x80000000n, 0xffffffffn],
  ...[2n ** 31n + 1n, 2n ** 40n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n],
];

const joined = (...parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);

/** The begin and end of a part, mostly a short one. */
function range(length: number, random: Random): [begin: number, end: number] {
  const begin = random.below(length);
  return [begin, Math.min(length, begin + 1 + random.size(10))];
}

const randomBytes = (count: number, random: Random): Uint8Array =>
  Uint8Array.from({ length: count }, () => random.below(256));

const mutators: readonly Mutator[] = [
  function flipBit(input, random) {
    const output = Uint8Array.from(input);
    output[random.below(output.length)]! ^= 1 << random.below(8);
    return output;
  },
  function setByte(input, random) {
    const output = Uint8Array.from(input);
    output[random.below(output.length)] = random.pick([0, 1, 0x7f, 0x80, 0xff, random.below(256)]);
    return output;
  },
  function setNumber(input, random) {
    const output = Uint8Array.from(input);
    const bytes = Math.min(random.pick([2, 4, 8]), output.length);
    const value = Buffer.alloc(8);
    value.writeBigUInt64LE(random.pick(extremes));
    output.set(value.subarray(0, bytes), random.below(output.length - bytes + 1));
    return output;
  },
  function truncate(input, random) {
    return input.slice(0, random.below(input.length + 1));
  },
  function remove(input, random) {
    const [begin, end] = range(input.length, random);
    return joined(input.subarray(0, begin), input.subarray(end));
  },
  function repeat(input, random) {
    const [begin, end] = range(input.length, random);
    const times = 1 + random.size(12);
    const part = input.subarray(begin, end);
    return joined(input.subarray(0, end), ...new Array<Uint8Array>(times).fill(part), input.subarray(end));
  },
  function insert(input, random) {
    const at = random.below(input.length + 1);
    return joined(input.subarray(0, at), randomBytes(1 + random.size(5), random), input.subarray(at));
  },
  function copyWithin(input, random) {
    const [begin, end] = range(input.length, random);
    const output = Uint8Array.from(input);
    output.copyWithin(random.below(input.length), begin, end);
    return output;
  },
];

/** Flips bits, sets bytes and little-endian numbers to extremes, cuts, inserts, repeats and moves parts. */
export const mutateBytes: Mutator = (input, random) =>
  input.length === 0
    ? randomBytes(random.size(6), random)
    : random.pick(mutators)(input, random).slice(0, LONGEST);
