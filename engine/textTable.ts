export interface Column {
  readonly title: string;
  /** Numbers to the right, words (the default) to the left. */
  readonly align?: 'left' | 'right';
}

/** Plain text columns, two spaces apart; one line per row, with a heading. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map(row => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (columns[i]!.align === 'right' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join('  ')
      .trimEnd();
  return [columns.map(({ title }) => title), ...rows].map(row => `${line(row)}\n`).join('');
}

/** "name   value" lines, the values below each other. */
export function formatFields(fields: readonly (readonly [string, string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join('');
}
