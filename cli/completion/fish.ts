import { allCommands, type CompletedCommand, type CompletedValue } from './tree.js';

/** In single quotes, where fish knows two escapes. */
const quoted = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`;

/** What `complete` is told of a value. */
function flags({ kind, words }: CompletedValue): string {
  if (words.length > 0) return `-x -a ${quoted(words.join(' '))}`;
  return { file: '-r -F', folder: "-x -a '(__fish_complete_directories)'", word: '-x' }[kind];
}

function linesOf(command: CompletedCommand): string[] {
  const at = (...more: string[]) =>
    `complete -c rm-engine -n ${quoted(['__rm_engine_at', `"${command.path.join(' ')}"`, ...more].join(' '))}`;
  const lines = command.commands.map(
    ({ path, summary }) => `${at()} -a ${quoted(path.at(-1)!)} -d ${quoted(summary)}`,
  );
  for (const { names, description, value } of command.options) {
    const named = names.map(name => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`));
    // An optional value cannot be told of here: fish would ask for it.
    const taken = value && !value.optional ? ` ${flags(value)}` : '';
    lines.push(`${at('any')} ${named.join(' ')} -d ${quoted(description)}${taken}`);
    // Further values of an option that takes several.
    if (value?.variadic) lines.push(`${at(names.at(-1)!)} ${flags(value).replace('-r ', '')}`);
  }
  for (const [i, value] of command.args.entries()) {
    const place = value.variadic ? `"${i}+"` : `${i}`;
    if (value.words.length > 0 || value.kind !== 'word') {
      lines.push(`${at('arguments', place)} ${flags(value).replace('-r ', '')}`);
    }
  }
  return lines;
}

/** The completion script for fish. */
export function fishScript(root: CompletedCommand): string {
  const commands = allCommands(root);
  const paths = commands.map(({ path }) => quoted(path.join(' ')));
  const taking = (variadic: boolean) => [
    ...new Set(
      commands.flatMap(({ path, options }) =>
        options.flatMap(({ names, value }) =>
          value && value.variadic === variadic ? names.map(name => quoted([...path, name].join(' '))) : [],
        ),
      ),
    ),
  ];
  return `# Completion of rm-engine for fish, made by: rm-engine completion fish

set -g __rm_engine_paths ${paths.join(' ')}
# Commands with an option that takes one value, and several.
set -g __rm_engine_one ${taking(false).join(' ')}
set -g __rm_engine_many ${taking(true).join(' ')}

# Whether the line is at command $argv[1]: with nothing more before its first argument, with "any" anywhere, with an
# option among that option's values, with "arguments" and a number behind that many arguments ("1+": or more).
function __rm_engine_at
    set -l path ''
    set -l option ''
    set -l many 0
    set -l count 0
    for word in (commandline -opc)[2..-1]
        set -l longer (string trim -- "$path $word")
        if string match -q -- '-*' $word
            set option ''
            set many 0
            if contains -- $longer $__rm_engine_many
                set option $word
                set many 1
            else if contains -- $longer $__rm_engine_one
                set option $word
            end
        else if test -n "$option"
            test $many = 1; or set option ''
        else if test $count = 0; and contains -- $longer $__rm_engine_paths
            set path $longer
        else
            set count (math $count + 1)
        end
    end
    test "$path" = "$argv[1]"; or return 1
    switch "$argv[2]"
        case any
            return 0
        case '-*'
            test "$option" = "$argv[2]"
        case arguments
            test -z "$option"; or return 1
            if string match -q -- '*+' $argv[3]
                test $count -ge (string trim -c + -- $argv[3])
            else
                test $count = $argv[3]
            end
        case ''
            test -z "$option"; and test $count = 0
    end
end

complete -c rm-engine -e
complete -c rm-engine -f
${commands.flatMap(linesOf).join('\n')}
`;
}
