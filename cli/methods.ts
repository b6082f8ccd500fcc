import type { Command } from 'commander';
import type { Method, Selection } from '../replaceme/index.js';
import { newCommand, runs } from './terminal/command.js';

type MethodEntry = Pick<Method, 'name' | 'summary' | 'source' | 'selection' | 'inMemoryOnly'>;
type SelectionEntry = Pick<Selection, 'name' | 'summary' | 'source'>;

/** All methods and selections, as `--json` prints them. */
export interface MethodList {
  readonly methods: readonly MethodEntry[];
  readonly selections: readonly SelectionEntry[];
}

/** The list for people: a line for each entry, indented lines below it for its paper and more. */
export function formatMethods({ methods, selections }: MethodList): string {
  const width = Math.max(...[...methods, ...selections].map(({ name }) => name.length));
  const format = ({ name, summary, source }: SelectionEntry, more: readonly string[] = []) =>
    [`${name.padEnd(width)}  ${summary}`, ...[source, ...more].map(line => `${' '.repeat(width + 4)}${line}`)]
      .map(line => `${line}\n`)
      .join('');
  const formatMethod = (method: MethodEntry) =>
    format(method, [
      `layers by ${method.selection}`,
      ...(method.inMemoryOnly ? [`only in memory: ${method.inMemoryOnly}`] : []),
    ]);
  return [
    'Methods (prune --method, compare --methods): how the removed layers are made up for\n\n',
    ...methods.map(formatMethod),
    '\nSelections (--select): which layers are removed\n\n',
    ...selections.map(selection => format(selection)),
  ].join('');
}

/** `methods` */
export function methodsCommand(signal: AbortSignal): Command {
  const command = newCommand('methods', {
    summary: 'list the pruning methods and the ways to select layers, each with its paper',
    details: 'Needs no GPU.',
    examples: ['rm-engine methods', 'rm-engine methods --json'],
  }).option('--json', 'print one JSON object');
  return runs<{ json?: boolean }>(command, signal, async ({ options, terminal }) => {
    const { methods, selections } = await import('../replaceme/index.js');
    const list: MethodList = {
      methods: methods.map(({ name, summary, source, selection, inMemoryOnly }) => ({
        ...{ name, summary, source, selection },
        ...(inMemoryOnly !== undefined && { inMemoryOnly }),
      })),
      selections: selections.map(({ name, summary, source }) => ({ name, summary, source })),
    };
    if (options.json) terminal.json(list);
    else terminal.data(formatMethods(list));
  });
}
