/** How long to look for a smaller input. */
export interface Effort {
  readonly milliseconds: number;
  readonly tries: number;
}

type Fails = (input: Uint8Array) => Promise<boolean>;

const brackets = [
  ['[', ']'],
  ['{"a":', '}'],
  ['(', ')'],
] as const;

/** Takes as many levels off deep nesting as it can: single brackets could only go in pairs. */
async function unnest(input: Uint8Array, fails: Fails): Promise<Uint8Array> {
  let text = Buffer.from(input).toString('latin1');
  for (const [open, close] of brackets) {
    for (let levels = 2 ** 16; levels >= 2 ** 8; levels /= 2) {
      const shorter = text.replace(open.repeat(levels), '').replace(close.repeat(levels), '');
      if (text.length - shorter.length !== levels * (open.length + close.length)) continue;
      if (await fails(Buffer.from(shorter, 'latin1'))) text = shorter;
    }
  }
  return Buffer.from(text, 'latin1');
}

/**
 * Removes parts of an input, from halves down to single bytes, as long as what is left `fails` in the same way. Returns the
 * smallest input found within the effort.
 */
export async function minimise(
  input: Uint8Array,
  fails: Fails,
  { milliseconds, tries }: Effort,
): Promise<Uint8Array> {
  const end = Date.now() + milliseconds;
  let left = tries;
  let smallest = await unnest(input, fails);
  for (let size = Math.ceil(smallest.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < smallest.length; ) {
      if (left-- <= 0 || Date.now() > end) return smallest;
      const shorter = Buffer.concat([smallest.subarray(0, at), smallest.subarray(at + size)]);
      if (await fails(shorter)) smallest = shorter;
      else at += size;
    }
  }
  return smallest;
}
