/** Python's string functions where JavaScript's differ, for templates written for Python's Jinja. */

/** Characters that str.strip() removes and str.isspace() accepts. */
const SPACE = '\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000';
const leading = new RegExp(`^[${SPACE}]+`);
const trailing = new RegExp(`[${SPACE}]+$`);

const inSet = (characters: string) => new Set(characters);

/** str.lstrip: removes white space, or the given characters, from the beginning. */
export function leftStrip(text: string, characters?: string | null): string {
  if (characters == null) return text.replace(leading, '');
  const set = inSet(characters);
  const points = [...text];
  const first = points.findIndex(point => !set.has(point));
  return first < 0 ? '' : points.slice(first).join('');
}

/** str.rstrip: the same from the end. */
export function rightStrip(text: string, characters?: string | null): string {
  if (characters == null) return text.replace(trailing, '');
  const set = inSet(characters);
  const points = [...text];
  return points.slice(0, points.findLastIndex(point => !set.has(point)) + 1).join('');
}

/** str.capitalize: the first character in upper case, all others in lower case. */
export function capitalize(text: string): string {
  const [first = '', ...rest] = text;
  return first.toUpperCase() + rest.join('').toLowerCase();
}

/** len of a str: code points. */
export function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** str.find: index in code points, or -1. */
export function find(text: string, part: string): number {
  const at = text.indexOf(part);
  return at < 0 ? -1 : codePoints(text.slice(0, at));
}

/**
 * re.sub with at most `count` replacements (0: all). Where the two dialects differ, the pattern follows JavaScript; in the
 * replacement, \1 and \g<name> are groups.
 */
export function regexReplace(text: string, pattern: string, replacement: string, count = 0): string {
  let done = 0;
  return text.replace(new RegExp(pattern, 'gu'), (whole: string, ...rest: unknown[]) => {
    if (count > 0 && done++ >= count) return whole;
    const named = typeof rest.at(-1) === 'object' ? (rest.at(-1) as Record<string, string>) : {};
    return replacement.replace(/\\(?:g<(\w+)>|(\d{1,2})|(.))/gsu, (_, name, digit, other) => {
      const group = digit ?? name;
      if (group === undefined) return other === 'n' ? '\n' : other === 't' ? '\t' : other;
      if (group === '0') return whole;
      return String((/^\d+$/.test(group) ? rest[Number(group) - 1] : named[group]) ?? '');
    });
  });
}

/** str(value) for JSON values other than lists and objects. */
export function pythonString(value: unknown): string {
  if (value === true) return 'True';
  if (value === false) return 'False';
  return value === null ? 'None' : String(value);
}
