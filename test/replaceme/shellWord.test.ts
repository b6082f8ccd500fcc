/** Real shells read back what shellWord writes. Half a second. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { nextSteps } from '../../cli/prune/summary.js';
import { repeatOf } from '../../replaceme/report/repeat.js';
import { shellWord } from '../../replaceme/report/text/shellWord.js';
import { shownName } from '../../replaceme/report/text/shownText.js';
import { hostileNames, namesOfSlurm } from '../hostileNames.js';
import { saySkipped, temporaryFolder } from '../support.js';

const words = [
  ...hostileNames,
  ...namesOfSlurm,
  '',
  '=',
  '%self',
  'a=b',
  '--out=a b',
  '\\\\',
  "''",
  'e\u0301',
];

/** What a shell makes of a text, in an empty folder: the lines that it prints. Fails if anything else happens there. */
function printedBy(shell: readonly string[], text: string): string[] {
  using folder = temporaryFolder();
  // A UTF-8 locale, and one that knows only ASCII.
  const outputs = ['C.UTF-8', 'C'].map(LC_ALL => {
    const [program, ...args] = shell;
    const env = { ...process.env, LC_ALL };
    return execFileSync(program!, [...args, text], { cwd: folder.path, encoding: 'utf8', env });
  });
  assert.equal(readdirSync(folder.path), []);
  assert.is(outputs[0], outputs[1]);
  return outputs[0]!.split('\0').slice(0, -1);
}

const shells = {
  bash: ['bash', '--norc', '-c'],
  zsh: ['zsh', '-f', '-c'],
  sh: ['sh', '-c'],
  fish: ['fish', '--no-config', '-c'],
} as const;

for (const [name, shell] of Object.entries(shells)) {
  if (spawnSync(shell[0], ['-c', 'true']).status !== 0) {
    saySkipped(`words in ${name}: it is not installed`);
    continue;
  }
  test(`${name} reads every word back as it was`, () => {
    // $'...' is of bash and zsh; others have no way to write what cannot be seen.
    const known = words.filter(word => ['bash', 'zsh'].includes(name) || shownName(word) === word);
    assert.ok(known.length > 40);
    const line = `printf '%s\\0' ${known.map(shellWord).join(' ')}`;
    assert.equal(printedBy(shell, line), known);
  });
}

test('a word on a terminal shows all that is in it', () => {
  for (const word of words) assert.is(shownName(shellWord(word)), shellWord(word), JSON.stringify(word));
});

/** The arguments that pasted command lines give to rm-engine and hf. */
const pasted = (text: string): string[] =>
  printedBy(shells.bash, `rm-engine() { printf '%s\\0' "$@"; }\nhf() { rm-engine "$@"; }\n${text}`);

test('command lines to paste: how to repeat a run, and what to do next', () => {
  for (const name of words.filter(Boolean)) {
    const command = ['rm-engine', 'prune', name, `--out=${name}`, '--calib', `folder/${name}`];
    assert.equal(pasted(repeatOf('prune', [name], { command }).text), command.slice(1), name);
    const published = repeatOf('prune', ['m', `folder/${name}`], { command }, { published: true });
    const [, , out, , calib] = pasted(published.text);
    assert.is(out!.replace(/^--out=/, ''), name, published.text);
    // The name alone would be an option.
    assert.is(calib, name.startsWith('-') ? `./${name}` : name);
    const next = pasted(
      nextSteps(name, name, {})
        .replace(/^next:/, '')
        .replace('FILE...', 'FILE'),
    );
    const path = name.startsWith('-') ? `./${name}` : name;
    assert.equal(next, [
      'chat',
      path,
      '--against',
      path,
      'eval',
      path,
      'FILE',
      '--against',
      path,
      'upload',
      'ORG/NAME',
      path,
    ]);
  }
});

test.run();
