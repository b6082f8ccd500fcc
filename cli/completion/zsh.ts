import { shellWord } from '../../replaceme/report/text/shellWord.js';
import { allCommands, type CompletedCommand, type CompletedOption, type CompletedValue } from './tree.js';

/** Within a specification of _arguments or _describe. */
const escaped = (text: string): string => text.replace(/[\\:[\]]/g, '\\$&');

function action({ kind, words }: CompletedValue): string {
  if (words.length > 0) return `(${words.map(escaped).join(' ')})`;
  return { file: '_files', folder: '_files -/', word: ' ' }[kind];
}

function optionSpecs({ names, description, value }: CompletedOption): string[] {
  const what = value && `${escaped(value.name)}:${action(value)}`;
  // Of several values: all words up to the next option.
  const suffix = value ? (value.variadic ? `:*-*:${what}` : `:${value.optional ? ':' : ''}${what}`) : '';
  return names.map(name => shellWord(`${name}[${escaped(description)}]${suffix}`));
}

const argumentSpec = (value: CompletedValue, i: number): string =>
  shellWord(
    `${value.variadic ? '*' : i + 1}:${value.optional ? ':' : ''}${escaped(value.name)}:${action(value)}`,
  );

const functionName = (path: readonly string[]): string => ['_rm_engine', ...path].join('_');

function functionOf({ path, options, args, commands }: CompletedCommand): string {
  const specs = options.flatMap(optionSpecs);
  if (commands.length === 0) {
    return `${functionName(path)}() {
  _arguments \\
    ${[...specs, ...args.map(argumentSpec)].join(' \\\n    ')}
}
`;
  }
  const described = commands.map(child => shellWord(`${escaped(child.path.at(-1)!)}:${child.summary}`));
  return `${functionName(path)}() {
  local state
  local -a line commands
  commands=(
    ${described.join('\n    ')}
  )
  _arguments -C \\
    ${specs.join(' \\\n    ')} \\
    '1: :->command' \\
    '*:: :->rest' && return
  case $state in
    command) _describe -t commands 'command' commands ;;
    rest)
      case $line[1] in
${commands.map(child => `        ${child.path.at(-1)}) ${functionName(child.path)} ;;\n`).join('')}      esac
      ;;
  esac
}
`;
}

/** The completion script for zsh: to be sourced, or a file _rm-engine in $fpath. */
export const zshScript = (root: CompletedCommand): string => `#compdef rm-engine
# Completion of rm-engine for zsh, made by: rm-engine completion zsh

${allCommands(root).map(functionOf).join('\n')}
if [[ $funcstack[1] == _rm-engine ]]; then
  _rm_engine "$@"
else
  compdef _rm_engine rm-engine
fi
`;
