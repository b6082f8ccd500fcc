/** Most levels of lists and objects in each other: no real file has as many, and Python's json stops near 1000. */
export const MOST_LEVELS = 500;

/** Where the string that begins at `open` ends: after the next quote with an even number of backslashes before it; -1: nowhere. */
export function endOfString(text: string, open: number): number {
  for (let at = text.indexOf('"', open + 1); at >= 0; at = text.indexOf('"', at + 1)) {
    let before = at;
    while (text.charCodeAt(before - 1) === 92) before--;
    if ((at - before) % 2 === 0) return at + 1;
  }
  return -1;
}

/** Whether brackets outside of texts are open at more than MOST_LEVELS levels; later steps would overflow the stack. */
function nestsTooDeep(text: string): boolean {
  let open = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 34) {
      at = endOfString(text, at) - 1;
      if (at < 0) return false;
    } else if (code === 91 || code === 123) {
      if (++open > MOST_LEVELS) return true;
    } else if (code === 93 || code === 125) open--;
  }
  return false;
}

/**
 * JSON.parse for texts of unknown origin: refuses nesting so deep that functions which call themselves for every level, such
 * as JSON.stringify, would overflow the stack.
 *
 * @throws SyntaxError.
 */
export function parseJsonText(text: string): unknown {
  if (nestsTooDeep(text)) throw new SyntaxError(`more than ${MOST_LEVELS} levels of lists and objects`);
  return JSON.parse(text) as unknown;
}
