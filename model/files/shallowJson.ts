/** Lists and objects within each other; no real file has as many, and Python's json stops near 1000. */
const MOST_LEVELS = 500;

/** Whether lists and objects lie in each other deeper than that. Does not call itself: that is what a deep value breaks. */
function isDeep(value: unknown): boolean {
  let level = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MOST_LEVELS) return true;
    const inner: unknown[] = [];
    for (const part of level) {
      if (typeof part !== 'object' || part === null) continue;
      for (const child of Object.values(part)) if (typeof child === 'object') inner.push(child);
    }
    level = inner;
  }
  return false;
}

/**
 * JSON.parse for files of others: refuses nesting so deep that functions which call themselves for every level, such as
 * JSON.stringify, would overflow the stack.
 *
 * @throws SyntaxError
 */
export function parseShallowJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  if (isDeep(value))
    throw new SyntaxError(`lists and objects lie more than ${MOST_LEVELS} deep in each other`);
  return value;
}
