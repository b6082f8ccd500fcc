import { markdownTable } from '../replaceme/index.js';
import type { Benchmark, BenchText } from './measure.js';

/** The text under a benchmark's heading in a document: how it was measured, tables, remarks. */
export const benchmarkSection = ({ description, tables, remarks = [] }: BenchText): string =>
  [
    description,
    ...tables.map(({ columns, rows }) => markdownTable(columns, rows).trimEnd()),
    ...remarks,
  ].join('\n\n');

/** Splits a text before every heading of this level; the text above the first heading comes first. */
const byHeading = (text: string, mark: '##' | '###'): string[] =>
  text.split(new RegExp(`^(?=${mark} )`, 'm'));

function withPart(
  text: string,
  mark: '##' | '###',
  heading: string,
  change: (part: string) => string,
): string {
  const parts = byHeading(text, mark);
  const line = `${mark} ${heading}\n`;
  const at = parts.findIndex(part => part === line.trimEnd() || part.startsWith(line));
  const part = change(at < 0 ? line : parts[at]!);
  const changed = at < 0 ? [...parts, part] : parts.with(at, part);
  return changed
    .map(one => one.trim())
    .filter(Boolean)
    .join('\n\n');
}

/** Replaces or adds this adapter's section on this benchmark in a Markdown document. */
export const withSection = (
  document: string,
  { adapter, bench }: Pick<Benchmark, 'adapter' | 'bench'>,
  body: string,
): string =>
  `${withPart(document, '##', adapter.description, section =>
    withPart(section, '###', bench, () => `### ${bench}\n\n${body}`),
  )}\n`;
