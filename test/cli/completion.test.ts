import { execFile, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Command } from 'commander';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { completedCommand } from '../../cli/completion/tree.js';
import { createProgram } from '../../cli/program.js';
import { methods, selections } from '../../replaceme/index.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name);
const commands = names(
  createProgram(new AbortController().signal).commands.map(command => ({ name: command.name() })),
);

/** For the scripts. */
const folder = temporaryFolder();
const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];
const script = (shell: Shell) => join(folder.path, `completion.${shell}`);

test.before(async () => {
  for (const shell of shells) {
    const { status, stdout } = await rmEngine(['completion', shell]);
    assert.is(status, 0);
    writeFileSync(script(shell), stdout);
  }
});

test.after(() => folder[Symbol.dispose]());

/** Each prints the candidates for the last of `words`, one a line. */
const askBash = `source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _rm_engine; printf '%s\\n' "\${COMPREPLY[@]}"`;

const askFish = 'source $argv[1]; complete -C "$argv[2]"';

/** A shell with a person at it: completion works nowhere else. What compadd would offer is printed. */
const askZsh = `zmodload zsh/zpty
zpty shell zsh -f -i
said() { local line; while zpty -r shell line && [[ $line != *"$1"* ]]; do :; done }
zpty -w shell "PROMPT=; stty -echo; autoload -U compinit; compinit -u -D; source \${(q)1}; cd \${(q)PWD}"
zpty -w shell 'compadd() {
  local -a found; local -i i=\${@[(I)-[OAD]]}
  if (( i )); then builtin compadd "$@"; return; fi
  builtin compadd -O found "$@"
  (( $#found )) && print -rl -- "found:"\${^found}
  builtin compadd "$@"
}
finished() { print -r -- finished; exit }
comppostfuncs=(finished); bindkey "^I" list-choices; zstyle ":completion:*" insert-tab false; print re""ady'
said ready
zpty -w -n shell "$2"$'\\t'
while zpty -r shell line; do
  [[ $line == *finished* ]] && break
  # ZLE moves the cursor before the first of them.
  [[ $line == *found:* ]] && print -r -- "\${\${line##*found:}%%$'\\r'*}"
done
zpty -d shell`;

async function candidates(shell: Shell, words: readonly string[]): Promise<string[]> {
  const args = {
    bash: ['--norc', '-c', askBash, 'bash', script('bash'), ...words],
    zsh: ['-f', '-c', askZsh, 'zsh', script('zsh'), words.join(' ')],
    fish: ['--no-config', '-c', askFish, script('fish'), words.join(' ')],
  }[shell];
  const { stdout } = await promisify(execFile)(shell, args, { cwd: folder.path, timeout: 60_000 });
  const found = stdout.split('\n').map(line => line.split('\t')[0]!.replace(/\/$/, ''));
  return [...new Set(found.filter(Boolean))].sort();
}

/** Whether bash splits words itself is the terminal's matter: here they are given as it does. */
const cases: [what: string, words: string[], expected: string[]][] = [
  ['commands', [''], commands],
  ['a command that is begun', ['comp'], ['compare', 'completion']],
  ['commands of a command', ['bench', 'p'], ['peak', 'predict', 'prefill', 'prune']],
  ['an option', ['prune', 'a', 'b', '--met'], ['--method']],
  ['options of all commands', ['inspect', '--q'], ['--quiet']],
  ['options of a command below another', ['bench', 'prune', '--meth'], ['--method']],
  ['methods', ['prune', '--method', ''], names(methods)],
  ['a method that is begun', ['prune', '--layers', '7', '--method', 'refit-'], ['refit-heal']],
  ['further methods', ['compare', 'm', '--methods', 'plain', 'refit-'], ['refit-heal']],
  ['selections', ['prune', '--select', ''], names(selections)],
  [
    'choices of a parser',
    ['prune', '--heal', ''],
    ['auto', 'closed-form', 'down-proj', 'full', 'none', 'o-proj', 'transform'],
  ],
  ['choices of a metavariable', ['prune', '--equation', ''], ['7', '8']],
  ['choices of an argument', ['completion', ''], ['bash', 'fish', 'zsh']],
  ['an option of all commands before the command', ['--adapter', 'x', 'meth'], ['methods']],
];

for (const shell of shells) {
  const installed = spawnSync(shell, ['--version']).status === 0;
  if (!installed) saySkipped(`completion in ${shell}: it is not installed`);
  else {
    for (const [what, words, expected] of cases) {
      test(`${shell} completes ${what}: ${words.join(' ')}`, async () => {
        assert.equal(await candidates(shell, ['rm-engine', ...words]), [...expected].sort());
      });
    }
  }
}

test('every option and every command is in every script', async () => {
  const { readFileSync } = await import('node:fs');
  const walk = (command: Command): Command[] => [command, ...command.commands.flatMap(walk)];
  const all = walk(createProgram(new AbortController().signal));
  for (const shell of shells) {
    const text = readFileSync(script(shell), 'utf8');
    for (const command of all) {
      for (const { long } of command.options) {
        const written = shell === 'fish' ? `-l ${long!.slice(2)} ` : long!;
        assert.ok(text.includes(written), `${shell}: ${command.name()} ${long}`);
      }
    }
  }
});

test('what an option takes is known: files, folders, words, or something to think of', () => {
  const thought = new Set([
    ...[
      'n',
      'count',
      'share',
      'factor',
      'number',
      'numbers',
      'rate',
      'weight',
      'layers',
      'i',
      'tokens',
      'bytes',
    ],
    ...[
      'date',
      'text',
      'address',
      'names',
      'prompt',
      'shell',
      'k/K',
      'card',
      'command',
      'org/name',
      'settings',
      'seconds',
      'counts',
      'sizes',
    ],
  ]);
  // Names that are none of a fixed list: of an adapter, a field, a document.
  const free = new Set(['--adapter', '--devices', '--text-field']);
  const vocabulary = { '--method': ['x'], '--methods': ['x'], '--select': ['x'] };
  const check = (command: ReturnType<typeof completedCommand>) => {
    for (const { names: flags, value } of command.options) {
      if (value?.kind !== 'word' || value.words.length > 0 || free.has(flags.at(-1)!)) continue;
      assert.ok(thought.has(value.name), `${command.path.join(' ')} ${flags.at(-1)} <${value.name}>`);
    }
    for (const value of command.args) {
      assert.ok(value.kind !== 'word' || value.words.length > 0 || thought.has(value.name), value.name);
    }
    command.commands.forEach(check);
  };
  check(completedCommand(createProgram(new AbortController().signal), vocabulary));
});

test('another shell is a wrong command line', async () => {
  const { status, stderr } = await rmEngine(['completion', 'tcsh']);
  assert.is(status, 2);
  assert.match(stderr, /Allowed choices are bash, zsh, fish/);
});

test.run();
