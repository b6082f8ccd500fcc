import type { Command } from 'commander';
import { RmError } from '../../engine/errors.js';
import { type NoPath, userPath } from '../../model/files/userPath.js';

/**
 * Which options and arguments are paths, or models that may be, is said by what they take: `--out <dir>`, `<model>`. Their
 * values may begin with "~/", and those of `--tasks NAME=ROWS` may have it after the sign.
 */
const pathWords =
  /^[<[](model|out|file|files|file\.jsonl|folder|dir|trace\.json|prompts|task|task=rows)(\.\.\.)?[\]>]$/;

/** The values of an option or argument that takes `word` ("<files...>") as paths; other values unchanged. */
export function toPaths(word: string, value: unknown, refuse: (noPath: NoPath) => never): unknown {
  if (!pathWords.test(word)) return value;
  if (Array.isArray(value)) return value.map(item => toPaths(word, item, refuse));
  if (typeof value !== 'string') return value;
  const [, name = '', path = value] = /^([\w.-]+=)(.*)$/s.exec(value) ?? [];
  const found = userPath(path);
  return typeof found === 'string' ? name + found : refuse(found);
}

const refuse = ({ problem, fix }: NoPath): never => {
  throw new RmError('INVALID_ARGUMENT', problem, fix);
};

/** What an option takes: "<dir>" of "--out <dir>"; empty for a switch. */
const takes = (flags: string): string => /[<[].*$/.exec(flags)?.[0] ?? '';

/** The options of a command with their paths. @throws RmError INVALID_ARGUMENT for what is no path. */
export function optionsWithPaths<Options extends object>(command: Command, options: Options): Options {
  const changed = command.options
    .map(option => [option.attributeName(), takes(option.flags)] as const)
    .filter(([key, word]) => word !== '' && key in options)
    .map(([key, word]) => [key, toPaths(word, options[key as keyof Options], refuse)]);
  return { ...options, ...(Object.fromEntries(changed) as Partial<Options>) };
}

/** The arguments of a command with their paths. @throws RmError INVALID_ARGUMENT for what is no path. */
export const argumentsWithPaths = (command: Command): unknown[] =>
  command.processedArgs.map((value: unknown, i) =>
    toPaths(`<${command.registeredArguments[i]!.name()}>`, value, refuse),
  );
