import { basename } from 'node:path';
import { modelName } from '../../model/index.js';
import { healSettings } from '../options/healSettings.js';
import { pruneSettings } from '../options/pruneSettings.js';
import type { Repeat } from './schema/schema.js';
import { pathArgument, shellWord } from './text/shellWord.js';

/** Options of a call that concern it alone: they cannot or need not be repeated. */
const ofTheRun = new Set([
  ...['device', 'onProgress', 'onRow', 'onRecord', 'onNotice', 'signal', 'command', 'journal', 'paces'],
  ...[...pruneSettings, ...healSettings].flatMap(({ ofTheRun, name }) => (ofTheRun ? [name] : [])),
]);

/** The last part of a path; a word without one stays. An option with its value, OPTION=a/b, becomes OPTION=b. */
function lastPart(word: string): string {
  const [, option = '', value = word] = /^(--[\w-]+=)(.*)$/s.exec(word) ?? [];
  if (option === '' && word.startsWith('-')) return word;
  const last = basename(value) || value;
  return option + (option === '' ? pathArgument(last) : last);
}

const same = (word: string): string => word;

/**
 * How to repeat a command line (`options.command`), or else a call of the function `name`.
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
    ? (word: string) =>
        word === folders[0] ? pathArgument(modelName(word, { revision: true })) : lastPart(word)
    : same;
  if (options.command) {
    return {
      kind: 'command',
      text: options.command.map(word => shellWord(shown(word))).join(' '),
    };
  }
  const settings = Object.entries(options).filter(
    ([key, value]) => !ofTheRun.has(key) && value !== undefined,
  );
  const text = (value: unknown) =>
    JSON.stringify(value, (_, part: unknown) => (typeof part === 'string' ? shown(part) : part));
  const words = [...folders, Object.fromEntries(settings)].map(text);
  return { kind: 'call', text: `await ${name}(${words.join(', ')})` };
}
