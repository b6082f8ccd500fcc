/**
 * Names of files are completed so that the shell reads them back, and nothing that is typed or found is run. Each shell
 * sits at a terminal of its own, which script (util-linux) makes. Half a minute, mostly waiting.
 */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { saySkipped, temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

/** Those that take different ways through a shell. */
const names = [
  ...[
    'two words',
    'it\'s "x"',
    '$(touch PWNED)',
    '`touch PWNED`',
    '; touch PWNED #',
    'a\ntouch PWNED\nb',
    '$HOME',
  ],
  ...['*', '[ab]?', '{a,b}', '!!', '~', '-rf', 'end\\', 'escape\u001b[31mred', 'ünï-模型'],
];

/** Bash leaves the quote open behind a folder with a newline, and fish offers its lines. */
const folderOf = (name: string): string => name.replaceAll('\n', ' ');

/** In each shell: how it starts, and a function rm-engine that writes its arguments, each as hexadecimal in a line. */
const shells = {
  bash: {
    start: 'bash --norc --noprofile -i',
    before: '',
    define: `rm-engine() { for a; do printf '%s' "$a" | od -An -v -tx1 | tr -d ' \\n'; echo; done > words; touch done; }`,
  },
  zsh: {
    start: 'zsh -f -i',
    // By default zsh runs a substitution that is typed before it completes any command.
    before: `autoload -U compinit; compinit -u -D; bindkey '^I' complete-word; `,
    define: `rm-engine() { for a; do printf '%s' "$a" | od -An -v -tx1 | tr -d ' \\n'; echo; done > words; touch done; }`,
  },
  fish: {
    start: 'fish --no-config -i',
    before: '',
    define: `function rm-engine; for a in $argv; printf '%s' $a | od -An -v -tx1 | tr -d ' \\n'; echo; end > words; touch done; end`,
  },
} as const;

/** Types at a terminal of the shell; `enter` presses Enter and tells the arguments that rm-engine was given. */
async function atTerminal<T>(
  shell: keyof typeof shells,
  folder: string,
  work: (type: (keys: string) => Promise<void>, enter: () => Promise<string[]>) => Promise<T>,
): Promise<T> {
  const { start, before, define } = shells[shell];
  writeFileSync(join(folder, 'script'), (await rmEngine(['completion', shell])).stdout);
  writeFileSync(join(folder, 'setup'), `${before}\nsource script\n${define}\n`);
  const env = { ...process.env, TERM: 'dumb', LC_ALL: 'C.UTF-8', HISTFILE: '/dev/null' };
  const child = spawn('script', ['-qfc', start, '/dev/null'], { cwd: folder, env });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', text => {
    shown += text;
  });
  const type = async (keys: string) => {
    child.stdin.write(keys);
    // A tab is only a tab once the shell is back at its prompt.
    await sleep(120);
  };
  const enter = async () => {
    await type('\n');
    for (const end = Date.now() + 20_000; !existsSync(join(folder, 'done')); await sleep(20))
      assert.ok(Date.now() < end, `${shell}: ${shown.slice(-300)}`);
    const words = readFileSync(join(folder, 'words'), 'utf8').split('\n').slice(0, -1);
    for (const name of ['words', 'done']) rmSync(join(folder, name));
    return words.map(word => Buffer.from(word, 'hex').toString());
  };
  try {
    while (shown === '') await sleep(50);
    await sleep(300);
    await type('source ./setup; rm-engine');
    await enter();
    await sleep(200);
    return await work(type, enter);
  } finally {
    child.kill();
  }
}

const terminal = spawnSync('script', ['-qfc', 'echo here', '/dev/null']).stdout?.toString().includes('here');
for (const shell of ['bash', 'zsh', 'fish'] as const) {
  if (!terminal || spawnSync(shell, ['-c', 'true']).status !== 0) {
    saySkipped(`completion of names in ${shell}: no ${terminal ? shell : 'script of util-linux'} here`);
    continue;
  }

  test(`${shell} completes folders for models and files for texts, whatever is in their names, and runs none`, async () => {
    using folder = temporaryFolder();
    for (const [i, name] of names.entries()) {
      for (const kind of ['file', 'folder']) mkdirSync(join(folder.path, `${kind}${i}`));
      writeFileSync(join(folder.path, `file${i}`, name), '');
      mkdirSync(join(folder.path, `folder${i}`, folderOf(name)));
      // No folder, so not offered for a model: it would stop the completion half way.
      writeFileSync(join(folder.path, `folder${i}`, `${folderOf(name)}2`), '');
    }
    const before = readdirSync(folder.path);
    await atTerminal(shell, folder.path, async (type, enter) => {
      for (const [i, name] of names.entries()) {
        await type(`rm-engine prune folder${i}/\t out --calib file${i}/\t`);
        const [, model, , , text] = await enter();
        assert.equal([model!.replace(/\/$/, ''), text], [`folder${i}/${folderOf(name)}`, `file${i}/${name}`]);
      }
    });
    assert.equal(readdirSync(folder.path), [...before, 'script', 'setup'].sort());
  });

  test(`${shell} runs nothing of what has been typed`, async () => {
    using folder = temporaryFolder();
    await atTerminal(shell, folder.path, async type => {
      for (const word of ['$(touch PWNED)', '"$(touch PWNED)"', 'a[$(touch PWNED)]', '`touch PWNED`']) {
        for (const line of [
          `prune ${word} --method re`,
          `prune --layers ${word} --sel`,
          `prune --method ${word}`,
        ]) {
          // Ctrl-U takes the line away again.
          await type(`rm-engine ${line}\t\u0015`);
        }
      }
    });
    assert.equal(readdirSync(folder.path), ['script', 'setup']);
  });
}

test.run();
