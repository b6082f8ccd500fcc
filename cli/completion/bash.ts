import { shellWord } from '../../replaceme/report/text/shellWord.js';
import { allCommands, type CompletedCommand, type CompletedValue } from './tree.js';

/** What the function below does with a value: how many there are, and what they are. */
const effect = ({ variadic, kind, words }: CompletedValue): string =>
  `takes=${variadic ? 'many' : 'one'}${kind === 'word' ? '' : ` kind=${kind}`}${words.length ? ` words=${shellWord(words.join(' '))}` : ''}`;

/** Branches of a case, those that do the same joined. */
function branches(entries: readonly (readonly [pattern: string, effect: string])[]): string {
  const patterns = new Map<string, string[]>();
  for (const [pattern, does] of entries)
    patterns.set(does, [...(patterns.get(does) ?? []), shellWord(pattern)]);
  return [...patterns].map(([does, list]) => `    ${list.join('|')}) ${does} ;;\n`).join('');
}

/** The completion script for bash, 3.2 included. */
export function bashScript(root: CompletedCommand): string {
  const commands = allCommands(root);
  const at = ({ path }: CompletedCommand) => path.join(' ');
  const values = commands.flatMap(command =>
    command.options.flatMap(({ names, value }) =>
      value ? names.map(name => [`${at(command)} ${name}`.trim(), effect(value)] as const) : [],
    ),
  );
  const args = commands.flatMap(command =>
    command.args.map((value, i) => {
      // Of a variadic argument there is no end: a pattern for its place and all behind it.
      const place = value.variadic ? '*' : `${i}`;
      return [`${at(command)} ${place}`.trim(), effect(value), value.variadic] as const;
    }),
  );
  const fixed = args.filter(([, , variadic]) => !variadic).map(([place, does]) => [place, does] as const);
  const endless = args
    .filter(([, , variadic]) => variadic)
    .map(([place, does]) => `    ${shellWord(place.slice(0, -1))}*) ${does} ;;\n`);
  const options = commands.map(
    command =>
      [at(command), `words=${shellWord(command.options.flatMap(({ names }) => names).join(' '))}`] as const,
  );
  const children = commands
    .filter(command => command.commands.length > 0)
    .map(
      command =>
        [
          at(command),
          `words=${shellWord(command.commands.map(({ path }) => path.at(-1)!).join(' '))}`,
        ] as const,
    );
  return `# Completion of rm-engine for bash, made by: rm-engine completion bash

# What follows an option: $1 is the command and the option.
_rm_engine_option() {
  takes='' kind='' words=''
  case $1 in
${branches(values)}  esac
}

# What an argument is: $1 is the command and the number of arguments before.
_rm_engine_argument() {
  kind='' words=''
  case $1 in
${branches(fixed)}${endless.join('')}  esac
}

_rm_engine_options() {
  case $1 in
${branches(options)}  esac
}

_rm_engine_commands() {
  words=''
  case $1 in
${branches(children)}  esac
}

_rm_engine() {
  local cur=\${COMP_WORDS[COMP_CWORD]} at='' option='' arguments=0 takes='' kind='' words='' word i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $word == '=' ]]; then
      continue # --option=value is three words
    elif [[ $word == -* ]]; then
      _rm_engine_option "\${at:+$at }$word"
      option=\${takes:+$word}
    elif [[ -n $option ]]; then
      [[ $takes == many ]] || option=''
    else
      _rm_engine_commands "$at"
      if [[ " $words " == *" $word "* ]]; then at="\${at:+$at }$word"; else arguments=$((arguments + 1)); fi
    fi
  done
  [[ $cur == '=' ]] && cur=''
  if [[ $cur == -* ]]; then
    kind='' _rm_engine_options "$at"
  elif [[ -n $option ]]; then
    _rm_engine_option "\${at:+$at }$option"
  else
    _rm_engine_commands "$at"
    [[ -n $words ]] || _rm_engine_argument "\${at:+$at }$arguments"
  fi
  local IFS=$' \\t\\n'
  # Names of files are the line editor's own matter: it quotes whatever is in them. Bash 3.2 always falls back on them.
  case $kind in
    file) ;;
    folder) compopt +o default -o dirnames 2>/dev/null ;;
    *) compopt +o default 2>/dev/null; COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
  esac
}

complete -o default -F _rm_engine rm-engine
`;
}
