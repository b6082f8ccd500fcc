import util from 'node:util';
import { shownText } from '../../replaceme/report/text/shownText.js';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** A part of a text with a style. */
export interface Styled {
  readonly style: Style;
  readonly text: string;
}

/**
 * What a terminal prints. Only styles become escape sequences: those within strings, which may come from a file, a model or
 * the hub, are shown.
 */
export type Text = string | Styled | readonly Text[];

export const styled = (style: Style, text: string): Styled => ({ style, text });

const isList = (text: Text): text is readonly Text[] => Array.isArray(text);

/** Without styles, as it is shown. */
export function plainText(text: Text): string {
  if (isList(text)) return text.map(plainText).join('');
  return shownText(typeof text === 'string' ? text : text.text);
}

/** As a terminal gets it, with escape sequences for styles. */
export function colouredText(text: Text): string {
  if (isList(text)) return text.map(colouredText).join('');
  if (typeof text === 'string') return shownText(text);
  // Not util.styleText, which came with Node 20.12.
  const [open, close] = util.inspect.colors[text.style]!;
  return `\u001b[${open}m${shownText(text.text)}\u001b[${close}m`;
}
