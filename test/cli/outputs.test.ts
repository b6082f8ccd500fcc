// Nothing of the user's is deleted, by any command: what is in the way is refused before a device is opened, inputs are no
// outputs, names of 255 bytes are fine, a signal finds somebody who answers. Costs 30 s.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { calibrationText } from '../replaceme/workplace.js';
import { dataPath, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { treeOf } from '../treeOf.js';
import { rmEngine } from './support.js';

const folder = temporaryFolder();
const at = (...parts: string[]) => join(folder.path, ...parts);
const [model, text, rows] = [at('model'), at('text.txt'), at('rows.jsonl')];
let refusals = 0;
test.after(() => {
  folder[Symbol.dispose]();
  console.log(`${refusals} command lines refused, and nothing changed`);
});

test.before(async () => {
  mkdirSync(model);
  await writeTinyModel(model);
  writeFileSync(text, calibrationText);
  cpSync(dataPath('tasks', 'piqa.jsonl'), rows);
  mkdirSync(at('photos', '2024'), { recursive: true });
  for (const name of [
    'a.jpg',
    '2024/b.jpg',
    'report.html',
    'x.json',
    'x.svg',
    'x.jsonl',
    'x.safetensors',
    'x.gguf',
  ]) {
    writeFileSync(at('photos', name), `not of rm-engine: ${name}`);
  }
  writeFileSync(at('ids.json'), '[1, 2, 3]');
  writeFileSync(at('run.yaml'), `model: ${model}\nlayers: 2\nmethod: plain\nreport: none\n`);
});

const plain = ['--layers', '2', '--method', 'plain', '--report', 'none'];
const calib = ['--calib', text, '--tokens', '256', '--sequence-length', '64'];
const shard = ['--shard', '1/2', '--method', 'replaceme-ls', '--remove', '3', ...calib];
const healing = ['--data', text, '--objective', 'lm', '--train', 'full', '--steps', '2'];
const comparing = ['--layers', '2', '--methods', 'plain', '--eval', text, ...calib];
const slurm = ['--shards', '2', '--layers', '2', '--select', 'cosine', '--calib', text];
const tasks = ['--tasks', `piqa=${rows}`, '--limit', '2', '--no-cache'];
const photo = (name: string) => at('photos', name);

/** Every output option of every command, on something of the user's. */
const writers: Record<string, (what: (name: string) => string) => string[]> = {
  prune: what => ['prune', model, what(''), ...plain],
  'prune to GGUF': what => ['prune', model, what('x.gguf'), ...plain],
  'prune --profile': what => ['prune', model, at('new'), ...plain, `--profile=${what('x.json')}`],
  heal: what => ['heal', model, what(''), ...healing],
  'heal --checkpoint': what => ['heal', model, at('new'), ...healing, '--checkpoint', what('x.safetensors')],
  'stats gather': what => ['stats', 'gather', model, what('x.safetensors'), ...shard],
  'slurm --folder': what => ['slurm', model, at('new'), '--folder', what(''), ...slurm],
  slurm: what => ['slurm', model, what(''), '--folder', at('jobs'), ...slurm],
  convert: what => ['convert', model, what('')],
  'convert to GGUF': what => ['convert', model, what('x.gguf')],
  'compare --out': what => ['compare', model, ...comparing, '--out', what('')],
  'profile --svg': what => ['profile', model, '--svg', what('x.svg'), ...calib],
  'profile --out': what => ['profile', model, '--out', what(''), ...calib],
  'eval --report': what => ['eval', model, text, '--report', what('')],
  'eval --samples': what => ['eval', model, ...tasks, '--samples', what('x.jsonl')],
  'eval --profile': what => ['eval', model, text, `--profile=${what('x.json')}`],
  'generate --profile': what => ['generate', model, 'hello', `--profile=${what('x.json')}`],
  'logits --out': what => ['logits', model, '--ids', at('ids.json'), '--out', what('x.safetensors')],
};

/** Runs some command lines side by side; each must be refused before a device is opened, and change nothing. */
async function allRefused(
  lines: readonly [name: string, args: readonly string[]][],
  words: RegExp,
): Promise<void> {
  const before = treeOf(folder.path);
  const left = [...lines];
  const work = async () => {
    for (let line = left.shift(); line; line = left.shift()) {
      const { status, stderr } = await rmEngine(line[1]);
      assert.is(status, 1, `${line[0]}: ${stderr}`);
      assert.match(stderr, /\(OUTPUT_EXISTS\)/, line[0]);
      assert.match(stderr, words, line[0]);
      assert.not.match(stderr, /^adapter: /m, `${line[0]}: before any work`);
      refusals++;
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  assert.equal(treeOf(folder.path), before);
}

test('--force of every output option leaves folders and files that are not ours', () =>
  allRefused(
    Object.entries(writers).map(([name, args]) => [name, [...args(photo), '--force']]),
    /may not be replaced/,
  ));

test('no output option takes a place in the model', () =>
  allRefused(
    Object.entries(writers).map(([name, args]) => [
      name,
      [...args(part => join(model, 'sub', part)), '--force'],
    ]),
    /because it lies in .*model/,
  ));

test('an output is no other input, and outputs are apart', async () => {
  writeFileSync(at('ids.json.safetensors'), '[1, 2, 3]');
  symlinkSync(at('ids.json.safetensors'), at('link.safetensors'));
  await allRefused(
    [
      ['config', ['prune', model, at('run.yaml'), '--config', at('run.yaml'), '--force']],
      ['trace within the output', ['prune', model, at('new'), ...plain, `--profile=${at('new', 't.json')}`]],
      ['statistics within the output', ['prune', model, at('new'), ...plain, '--statistics', at('new', 's')]],
      [
        'svg within the folder',
        ['profile', model, '--out', at('new'), '--svg', at('new', 'x.svg'), ...calib],
      ],
      [
        'samples within the report',
        ['eval', model, ...tasks, '--report', at('new'), '--samples', at('new', 'x.jsonl')],
      ],
      ['cache in the model', ['eval', model, '--tasks', `piqa=${rows}`, '--cache', join(model, 'cache')]],
      ['jobs in the output', ['slurm', model, at('new'), '--folder', at('new', 'jobs'), ...slurm]],
      [
        'ids',
        ['logits', model, '--ids', at('ids.json.safetensors'), '--out', at('link.safetensors'), '--force'],
      ],
    ],
    /cannot be the output, because it/,
  );
  rmSync(at('link.safetensors'));
  rmSync(at('ids.json.safetensors'));
});

/** A name of so many bytes. */
const nameOf = (bytes: number, letter = 'n') => letter.repeat(Math.floor(bytes / Buffer.byteLength(letter)));

test('names of up to 255 bytes are written, longer ones are refused before any work', async () => {
  mkdirSync(at('long'));
  const names = [nameOf(230), nameOf(255), nameOf(255, '名'), `${nameOf(250)}.gguf`];
  for (const name of names) {
    const { status, stderr } = await rmEngine([
      'prune',
      model,
      at('long', name),
      ...plain,
      '--checkpoint-every',
      '0',
    ]);
    assert.is(status, 0, stderr);
    const found = readdirSync(at('long'));
    assert.ok(found.includes(name));
    assert.equal(
      found.filter(other => other.startsWith('.') || other.includes('checkpoint')),
      [],
    );
    rmSync(at('long'), { recursive: true });
    mkdirSync(at('long'));
  }
  for (const out of [
    at('long', nameOf(256)),
    at('long', 'new', nameOf(258, '名')),
    at('long', `${nameOf(251)}.gguf`),
  ]) {
    const { status, stderr } = await rmEngine(['prune', model, out, ...plain]);
    assert.is(status, 1);
    assert.match(stderr, /the name is too long \(OUTPUT_FAILED\)/);
    assert.not.match(stderr, /^adapter: /m);
  }
  assert.equal(readdirSync(at('long')), []);
});

test('--force replaces what rm-engine wrote, and a finished run leaves nothing else', async () => {
  const again = async (...args: string[]) => {
    const { status, stderr } = await rmEngine(args);
    assert.is(status, 0, stderr);
  };
  mkdirSync(at('own'));
  const own = (name: string) => at('own', name);
  const all: string[][] = [
    ['prune', model, own('pruned'), ...plain],
    ['convert', model, own('x.gguf')],
    ['stats', 'gather', model, own('x.safetensors'), ...shard],
    ['slurm', model, own('later'), '--folder', own('jobs'), ...slurm],
    ['profile', model, '--svg', own('x.svg'), '--out', own('windows'), ...calib],
    [
      'eval',
      model,
      ...tasks,
      '--samples',
      own('x.jsonl'),
      '--report',
      own('report'),
      `--profile=${own('x.json')}`,
    ],
    ['logits', model, '--ids', at('ids.json'), '--out', own('logits.safetensors'), '--taps'],
    ['compare', model, ...comparing, '--no-report', '--out', own('cmp')],
  ];
  for (const args of all) {
    await again(...args);
    await again(...args, '--force');
  }
  assert.equal(readdirSync(at('own')).sort(), [
    'cmp',
    'jobs',
    'logits.safetensors',
    'pruned',
    'report',
    'windows',
    'x.gguf',
    'x.json',
    'x.jsonl',
    'x.safetensors',
    'x.svg',
  ]);
});

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

test('a signal while the program is loaded ends it with 130 and no word of Node', async () => {
  // Holds the loading, which is quick on a fast machine, until the signal has come.
  const hook = at('slow.mjs');
  writeFileSync(
    hook,
    `import { register } from 'node:module';
     register('data:text/javascript,' + encodeURIComponent(\`
       export async function load(url, context, next) {
         if (url.endsWith('/cli/program.js')) {
           process._rawDebug('loading');
           await new Promise(resolve => setTimeout(resolve, 400));
         }
         return next(url, context);
       }\`));`,
  );
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const child = spawn(process.execPath, ['--import', hook, main, 'inspect', model]);
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', data => {
      if (!stderr) child.kill(signal);
      stderr += data;
    });
    const ended = await new Promise(resolve => child.on('close', (status, by) => resolve(status ?? by)));
    assert.is(ended, 130, stderr);
    assert.match(stderr, /^loading\ninterrupted\n$/);
  }
});

test('a process whose main thread never comes to an end has ended two seconds after a signal', async () => {
  const script = at('busy.mjs');
  const url = (path: string) => new URL(`../../${path}.js`, import.meta.url);
  writeFileSync(
    script,
    `import { watchInterrupts } from '${url('cli/terminal/interrupt')}';
     import { withOutputFile } from '${url('model/files/outputFile')}';
     import { writeFileSync } from 'node:fs';
     const { signal } = watchInterrupts();
     await withOutputFile(${JSON.stringify(at('busy.txt'))}, { name: 'x', isOne: () => false }, {}, async path => {
       writeFileSync(path, 'half');
       signal.addEventListener('abort', () => setTimeout(() => { for (;;); }, 100));
       console.log('ready');
       await new Promise(resolve => setTimeout(resolve, 60000));
     });`,
  );
  const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise(resolve => child.stdout!.once('data', resolve));
  const began = performance.now();
  child.kill('SIGTERM');
  const ended = await new Promise(resolve => child.on('close', (status, by) => resolve(status ?? by)));
  assert.is(ended, 'SIGTERM');
  assert.ok(performance.now() - began < 4000, 'with a margin for a busy machine');
  assert.equal(
    readdirSync(folder.path).filter(name => name.startsWith('.rm-engine-')),
    [],
  );
});

test.run();
