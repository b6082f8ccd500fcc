import { modelName } from '../../model/index.js';
import type { Repeat } from './schema/schema.js';

/** A word as a POSIX shell reads it back. */
export const shellWord = (word: string): string =>
  /^[\w%+,./:=@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

/** What of a call is no setting that another run could be given. */
const ownOfTheRun = new Set([
  ...['device', 'onProgress', 'onRow', 'onNotice', 'signal', 'command'],
  ...['journal', 'checkpoint', 'checkpointEvery', 'resume', 'restart'],
]);

/** The same on the command line. */
const wordsOfTheRun = new Set(['--resume', '--restart', '--no-checkpoint']);

/** The words of a command line that another run could be given. */
const settingWords = (words: readonly string[]): string[] =>
  words.filter(
    (word, w) =>
      !wordsOfTheRun.has(word) &&
      !word.startsWith('--checkpoint-every') &&
      words[w - 1] !== '--checkpoint-every',
  );

/** The last part of a path; a word without one stays. `--out=a/b` becomes `--out=b`. */
function lastPart(word: string): string {
  const [, option = '', value = word] = /^(--[\w-]+=)(.*)$/s.exec(word) ?? [];
  return option + (value.split(/[\\/]/).filter(Boolean).at(-1) ?? value);
}

const same = (word: string): string => word;

/**
 * How to do again what the words of a command line (`options.command`), or a call of the function `name`, have asked for.
 *
 * @param folders the model first.
 * @param published leaves out the folders of all paths, so that the text does not tell where it was made.
 */
export function repeatOf(
  name: string,
  folders: readonly string[],
  options: { readonly command?: readonly string[] },
  { published = false } = {},
): Repeat {
  const shown = published
    ? (word: string) => (word === folders[0] ? modelName(word, { revision: true }) : lastPart(word))
    : same;
  if (options.command) {
    return {
      kind: 'command',
      text: settingWords(options.command)
        .map(word => shellWord(shown(word)))
        .join(' '),
    };
  }
  const settings = Object.entries(options).filter(
    ([key, value]) => !ownOfTheRun.has(key) && value !== undefined,
  );
  const text = (value: unknown) =>
    JSON.stringify(value, (_, part: unknown) => (typeof part === 'string' ? shown(part) : part));
  const words = [...folders, Object.fromEntries(settings)].map(text);
  return { kind: 'call', text: `await ${name}(${words.join(', ')})` };
}
