import { shownName, shownText } from './shownText.js';
import { padEnd, padStart, textWidth } from './textWidth.js';

export interface Column {
  readonly title: string;
  /** Right for numbers; default left, for words. */
  readonly align?: 'left' | 'right';
  /** A title above this column and the next ones, `columns` in all. */
  readonly group?: { readonly title: string; readonly columns: number };
}

/** A column of numbers. */
export const right = (title: string): Column => ({ title, align: 'right' });

/**
 * Columns of plain text, two spaces apart: a line per row under a heading, with a line of group titles where there are any.
 * Whatever is in a cell stays in its place.
 */
export function formatTable(given: readonly Column[], cells: readonly (readonly string[])[]): string {
  const columns = given.map(({ group, ...column }) => ({
    ...column,
    title: shownName(column.title),
    ...(group && { group: { ...group, title: shownName(group.title) } }),
  }));
  const rows = cells.map(row => row.map(shownName));
  const widths = columns.map(({ title }, i) =>
    Math.max(textWidth(title), ...rows.map(row => textWidth(row[i]!))),
  );
  const above = groupLine(columns, widths);
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) =>
        columns[i]!.align === 'right' ? padStart(cell, widths[i]!) : padEnd(cell, widths[i]!),
      )
      .join('  ')
      .trimEnd();
  return above + [columns.map(({ title }) => title), ...rows].map(row => `${line(row)}\n`).join('');
}

/** The line of group titles above their columns; widens the first column of a group where its title needs room. */
function groupLine(columns: readonly Column[], widths: number[]): string {
  if (!columns.some(({ group }) => group)) return '';
  let text = '';
  let at = 0;
  for (const [i, { group }] of columns.entries()) {
    if (group) {
      const spanned = widths.slice(i, i + group.columns);
      const span = spanned.reduce((sum, width) => sum + width + 2, -2);
      widths[i]! += Math.max(0, group.title.length - span);
      text = text.padEnd(at) + group.title;
    }
    at += widths[i]! + 2;
  }
  return `${text}\n`;
}

const markdownRow = (cells: readonly string[]): string =>
  `| ${cells.map(cell => shownName(cell).replaceAll('|', '\\|')).join(' | ')} |\n`;

/** The table in Markdown, which the cells may hold. */
export const markdownTable = (columns: readonly Column[], rows: readonly (readonly string[])[]): string =>
  markdownRow(columns.map(({ title, group }) => (group ? `${group.title}: ${title}` : title))) +
  markdownRow(columns.map(({ align }) => (align === 'right' ? '--:' : '---'))) +
  rows.map(markdownRow).join('');

/** Lines of "name   value" with aligned values; a value may have several lines. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields
    .map(
      ([name, value]) =>
        `${name.padEnd(width)}  ${shownText(value).replaceAll('\n', `\n${' '.repeat(width + 2)}`)}\n`,
    )
    .join('');
}
