import { shownName } from './shownText.js';

/** What stands for itself in every shell. A leading = means something to zsh, a leading % to fish. */
const plain = /^[\w+./:@-][\w%+,./:=@-]*$/;

/** In `$'...'`, which bash and zsh know: all that cannot be seen as the bytes of its UTF-8. */
function spelledOut(word: string): string {
  const parts = Array.from(word, character => {
    if (character === "'" || character === '\\') return `\\${character}`;
    if (shownName(character) === character) return character;
    return Array.from(Buffer.from(character), byte => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
  });
  return `$'${parts.join('')}'`;
}

/**
 * A word as bash and zsh read it back, and if all its characters can be seen, other POSIX shells and fish too. A backslash
 * stands outside of the quotes, where all of them agree on it.
 */
export function shellWord(word: string): string {
  if (plain.test(word)) return word;
  return shownName(word) === word ? `'${word.replace(/['\\]/g, "'\\$&'")}'` : spelledOut(word);
}

/** A path as an argument that no command takes for an option. */
export const pathArgument = (path: string): string => (path.startsWith('-') ? `./${path}` : path);

/** A path on a command line, as a shell reads it back. */
export const shellPath = (path: string): string => shellWord(pathArgument(path));
