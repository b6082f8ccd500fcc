import type { Mutator } from '../target.js';
import { mutateBytes } from './bytes.js';

/** Thrift's compact numbers: 0, small ones, 2^31, 2^63 and one that never ends. */
const varints = [
  [0],
  [1],
  [2],
  [0x7f],
  [0xff, 0x7f],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
  [0x80, 0x94, 0xeb, 0xdc, 0x03],
  new Array<number>(20).fill(0x80),
];

/** Changes bytes of the footer, of the headers of pages (which begin with a thrift field) or anywhere. */
export const mutateParquet: Mutator = (input, random) => {
  if (input.length < 12 || random.chance(0.2)) return mutateBytes(input, random);
  const bytes = Buffer.from(input);
  const footerLength = bytes.readUInt32LE(bytes.length - 8);
  const footerStart = Math.max(4, bytes.length - 8 - footerLength);
  // A page's header: field 1, an i32.
  const pages = [...bytes.subarray(0, footerStart).entries()]
    .filter(([at, byte]) => byte === 0x15 && at >= 4)
    .map(([at]) => at);
  const inFooter = random.chance(0.6) || pages.length === 0;
  const at = inFooter
    ? footerStart + random.below(bytes.length - 8 - footerStart)
    : random.pick(pages) + random.below(24);
  const number = Uint8Array.from(random.pick(varints));
  const length = random.pick([0, 1, 1, 2, number.length]);
  const changed = random.chance(0.4)
    ? Buffer.concat([bytes.subarray(0, at), number, bytes.subarray(at + length)])
    : Buffer.concat([
        bytes.subarray(0, at),
        mutateBytes(bytes.subarray(at, at + 16), random),
        bytes.subarray(at + 16),
      ]);
  // The footer is found from the end, so its length follows.
  if (inFooter && random.chance(0.9) && changed.length >= 12) {
    changed.writeUInt32LE(changed.length - 8 - footerStart, changed.length - 8);
  }
  return changed;
};
