import type { Argument, Command, Option } from 'commander';
import type { Parser } from '../options/optionTypes.js';

/** What may stand for an argument, or after an option. */
export interface CompletedValue {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'word';
  /** All that it can be; empty where that is not known. */
  readonly words: readonly string[];
  /** Takes everything up to the next option. */
  readonly variadic: boolean;
  readonly optional: boolean;
}

export interface CompletedOption {
  /** As it is written, the long form last: ["-h", "--help"]. */
  readonly names: readonly string[];
  readonly description: string;
  readonly value?: CompletedValue;
}

/** A command as shells complete it. */
export interface CompletedCommand {
  /** Without "rm-engine": ["bench", "kernels"]. */
  readonly path: readonly string[];
  readonly summary: string;
  /** Those of all commands too. */
  readonly options: readonly CompletedOption[];
  readonly args: readonly CompletedValue[];
  readonly commands: readonly CompletedCommand[];
}

/** Words for the value of an option, by its long name: those that no parser states, since they are in a registry. */
export type Vocabulary = Readonly<Record<string, readonly string[]>>;

const folders = new Set(['model', 'out', 'folder', 'dir']);
const files = new Set(['file', 'files', 'trace.json', 'task=rows', 'task', 'file.jsonl', 'prompts']);

function kindOf(name: string): CompletedValue['kind'] {
  if (folders.has(name)) return 'folder';
  return files.has(name) ? 'file' : 'word';
}

/** "<files...>" or "[trace.json]" or "<7|8>" at the end of an option's flags. */
function optionValue(option: Option, vocabulary: Vocabulary): CompletedValue | undefined {
  const name = /[<[]([^\]>]+?)(?:\.{3})?[\]>]$/.exec(option.flags)?.[1];
  if (name === undefined) return undefined;
  const parser = option.parseArg as Parser<unknown> | undefined;
  const stated = option.argChoices ?? parser?.choices ?? (name.includes('|') ? name.split('|') : undefined);
  const words = stated ?? vocabulary[option.long ?? ''] ?? [];
  return {
    ...{ name, words, variadic: option.variadic, optional: option.optional },
    kind: words.length > 0 ? 'word' : kindOf(name),
  };
}

const argumentValue = (argument: Argument): CompletedValue => {
  const words = argument.argChoices ?? [];
  const name = argument.name();
  return {
    ...{ name, words, variadic: argument.variadic, optional: !argument.required },
    kind: words.length > 0 ? 'word' : kindOf(name),
  };
};

/** A command and all below it, from commander's own description. */
export function completedCommand(
  command: Command,
  vocabulary: Vocabulary,
  path: readonly string[] = [],
): CompletedCommand {
  const help = command.createHelp();
  const options = [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)];
  return {
    path,
    summary: command.summary() || command.description(),
    options: options.map(option => {
      const value = optionValue(option, vocabulary);
      const names = [option.short, option.long].filter(name => name !== undefined);
      return { names, description: option.description, ...(value && { value }) };
    }),
    args: command.registeredArguments.map(argumentValue),
    commands: help
      .visibleCommands(command)
      .map(child => completedCommand(child, vocabulary, [...path, child.name()])),
  };
}

/** A command and all below it in one list, itself first. */
export const allCommands = (command: CompletedCommand): CompletedCommand[] => [
  command,
  ...command.commands.flatMap(allCommands),
];
