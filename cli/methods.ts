import type { Command } from 'commander';
import type { Method, Selection } from '../replaceme/index.js';
import { newCommand, runs } from './terminal/command.js';

type MethodEntry = Pick<Method, 'name' | 'summary' | 'source' | 'selection' | 'inMemoryOnly'>;
type SelectionEntry = Pick<Selection, 'name' | 'summary' | 'source'>;

/** What there is to choose from, as `--json` prints it. */
export interface MethodList {
  readonly methods: readonly MethodEntry[];
  readonly selections: readonly SelectionEntry[];
}

export function formatMethods({ methods, selections }: MethodList): string {
  const width = Math.max(...[...methods, ...selections].map(({ name }) => name.length));
  const entry = ({ name, summary, source }: SelectionEntry, more: readonly string[] = []) =>
    [`${name.padEnd(width)}  ${summary}`, ...[source, ...more].map(line => `${' '.repeat(width + 4)}${line}`)]
      .map(line => `${line}\n`)
      .join('');
  const method = (listed: MethodEntry) =>
    entry(listed, [
      `layers by ${listed.selection}`,
      ...(listed.inMemoryOnly ? [`only in memory: ${listed.inMemoryOnly}`] : []),
    ]);
  return [
    'Methods (prune --method, compare --methods): what takes the place of removed layers\n\n',
    ...methods.map(method),
    '\nSelections (--select): which layers are removed\n\n',
    ...selections.map(selection => entry(selection)),
  ].join('');
}

/** `methods` */
export function methodsCommand(signal: AbortSignal): Command {
  const command = newCommand('methods', {
    summary: 'lists the methods and how layers can be selected, each with its paper',
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
