import { RmError } from '../../engine/errors.js';
import { bytesOf } from './files.js';
import type { Target } from './target.js';

/** What each letter does to whoever reads it. */
const faults: Readonly<Record<string, () => unknown>> = {
  H: () => {
    for (;;);
  },
  C: () => process.abort(),
  T: () => (undefined as unknown as string[]).map(String),
  M: () => {
    for (const all: Uint8Array[] = []; ; ) all.push(new Uint8Array(64 << 20).fill(1));
  },
  R: () => {
    void Promise.reject(new Error('nobody awaits this'));
  },
  X: () => {
    throw new RmError('DATA_INVALID', 'an X', 'Leave it out.');
  },
};

/** A target with one fault of each kind: the harness has to find them all. RM_PLANTED names the letters that it has. */
export const target: Target = {
  corpus: async () => [bytesOf('a few'), bytesOf('letters')],
  mutate: (input, random) => {
    const at = random.below(input.length + 1);
    const letter = random.pick([...`${process.env.RM_PLANTED}Xyz`]);
    return Buffer.concat([input.subarray(0, at), bytesOf(letter), input.subarray(at)]);
  },
  open: async () => async input => {
    for (const letter of new TextDecoder().decode(input)) faults[letter]?.();
  },
};
