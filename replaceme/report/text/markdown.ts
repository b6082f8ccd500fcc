import { shownName, shownText } from './shownText.js';

/** Letters and digits with single signs between them, in which Markdown sees nothing. */
const ordinary = /^[\p{L}\p{N}]+(?:[ ._/-][\p{L}\p{N}]+)*$/u;

/**
 * A name within a line of Markdown: as it is if nothing in it can mean something, else as code. A vertical bar is shown as
 * \u007c, since in tables it ends a cell even within code.
 */
export function markdownName(name: string): string {
  if (name === '' || (ordinary.test(name) && !/www\./i.test(name))) return name;
  const code = shownName(name).replaceAll('|', '\\u007c');
  const longest = Math.max(0, ...Array.from(code.matchAll(/`+/g), ([run]) => run.length));
  const fence = '`'.repeat(longest + 1);
  const space = /^[` ]|[` ]$/.test(code) ? ' ' : '';
  return `${fence}${space}${code}${space}${fence}`;
}

/** Prose that may hold names, within a line of Markdown: it reads as it is, and no name begins markup or a link. */
export const markdownText = (text: string): string =>
  shownName(text)
    .replace(/[\\`*_[\]<>|~&#$]/g, '\\$&')
    .replace(/:(?=\/\/)/g, '\\:')
    .replace(/(www)\./gi, '$1\\.');

/** A text as a value in YAML's double quotes, on one line. */
export const yamlText = (text: string): string => shownText(JSON.stringify(text));
