/** Python's string functions where JavaScript's differ. */

/** Characters that str.strip() removes and str.isspace() accepts. */
const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const trailing = new RegExp(`[${SPACE}]+$`);

/** str.rstrip: removes white space from the end. */
export const rightStrip = (text: string): string => text.replace(trailing, '');

const space = new RegExp(`^[${SPACE}]$`);

/** str.isspace of one character. */
export const isSpace = (character: string): boolean => space.test(character);

/** len of a str: code points. */
export function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
