import { stripVTControlCharacters } from 'node:util';

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** Characters that terminals draw two columns wide: East Asian Wide and Fullwidth (UAX #11), and emoji. */
const wide =
  /^[\p{Emoji_Presentation}\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}\p{Script=Bopomofo}\p{Script=Yi}\u3001-\u303e\uff01-\uff60\uffe0-\uffe6]/u;
/** Half-width forms of otherwise wide scripts. */
const half = /^[\uff61-\uffdc]/u;
/** Characters that take no column: marks, controls, joiners. */
const nothing = /^[\p{Mark}\p{Cc}\p{Cf}]+$/u;
const plain = /^[\x20-\x7e]*$/;

function graphemeWidth(grapheme: string): number {
  if (nothing.test(grapheme)) return 0;
  // U+FE0F asks for the emoji form of a character that is text by default.
  return (wide.test(grapheme) && !half.test(grapheme)) || grapheme.includes('\ufe0f') ? 2 : 1;
}

/** Columns that a text takes on a terminal; colour codes take none. The text must have no tabs or line ends. */
export function textWidth(text: string): number {
  if (plain.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(stripVTControlCharacters(text)))
    width += graphemeWidth(segment);
  return width;
}

/** Like String.padEnd, but by columns. */
export const padEnd = (text: string, width: number): string =>
  text + ' '.repeat(Math.max(0, width - textWidth(text)));

/** Like String.padStart, but by columns. */
export const padStart = (text: string, width: number): string =>
  ' '.repeat(Math.max(0, width - textWidth(text))) + text;

/** The beginning of a text without colour codes, at most `width` columns; never cuts a character in two. */
export function cutToWidth(text: string, width: number): string {
  if (plain.test(text)) return text.slice(0, Math.max(0, width));
  let used = 0;
  let cut = '';
  for (const { segment } of graphemes.segment(text)) {
    used += graphemeWidth(segment);
    if (used > width) break;
    cut += segment;
  }
  return cut;
}

/**
 * Wraps text to lines of at most `width` columns. Breaks at spaces, and within a word only if it is longer than a line.
 * Keeps the text's line ends; drops spaces at a break.
 */
export function wrapText(text: string, width: number): string[] {
  const most = Math.max(1, width);
  return text.split('\n').flatMap(paragraph => {
    const lines: string[] = [];
    let line = '';
    for (const piece of paragraph.match(/\s*\S+|\s+$/g) ?? []) {
      if (textWidth(line + piece) <= most) {
        line += piece;
        continue;
      }
      if (piece.trim() === '') break;
      if (line !== '') lines.push(line);
      line = line === '' ? piece : piece.trimStart();
      // The rest of a long word is not measured again for every line.
      for (;;) {
        // At least one character per line, even if it is wider than the line.
        const head = cutToWidth(line, most) || graphemes.segment(line).containing(0)?.segment || '';
        if (head === line) break;
        lines.push(head);
        line = line.slice(head.length);
      }
    }
    return [...lines, line];
  });
}
