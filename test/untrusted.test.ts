// What is read from files of others: inherited names, deep nesting, aliases, and the messages about them. Costs 2 s.
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { mapPruneConfig, readPruneConfig } from '../cli/prune/configFile.js';
import { describeFailure, onCommandLine } from '../cli/terminal/failure.js';
import { RmError } from '../engine/index.js';
import { parseHeader } from '../model/checkpoint/safetensorsHeader.js';
import { architectureFromConfig } from '../model/families/index.js';
import { readArchitecture, readDocuments } from '../model/index.js';
import { readTaskFile } from '../model/tasks/taskFile.js';
import { onOff } from '../replaceme/options/valueTypes.js';
import { rejectsWith } from './gpu.js';
import { root } from './packed.js';
import { temporaryFolder } from './support.js';
import { tinyConfig, writeTinyModel } from './tinyModel.js';

/** Names that every object has without being given them. */
const inherited = ['toString', 'constructor', '__proto__', 'hasOwnProperty', 'valueOf', 'isPrototypeOf'];

/** Asserts that a failure has a code and one plain line that says what was wrong, first of all in which file. */
async function refused(work: () => unknown, code: RmError['code'], file?: string): Promise<string> {
  const message = await rejectsWith(work, code);
  assert.not.match(message, /\n|function|native code|\[object|at async/, message);
  if (file !== undefined) assert.ok(message.startsWith(file), message);
  return message;
}

const collect = async (path: string, options = {}): Promise<unknown[]> => {
  const documents: unknown[] = [];
  for await (const document of readDocuments(path, options)) documents.push(document);
  return documents;
};

for (const name of inherited) {
  test(`"${name}" is a name like any other`, async () => {
    using folder = temporaryFolder();
    const path = (file: string) => join(folder.path, file);
    const rows = (row: string) => {
      writeFileSync(path('rows.jsonl'), `${row}\n`);
      return path('rows.jsonl');
    };
    const turns = `{"conversations": [{"from": "${name}", "value": "a"}]}`;
    await refused(() => collect(rows(turns)), 'DATA_INVALID', path('rows.jsonl'));
    await refused(
      () => collect(rows('{"text": "a"}'), { textField: name }),
      'DATA_INVALID',
      path('rows.jsonl'),
    );
    assert.is((await collect(rows(`{"${name}": "a text"}`), { textField: name })).length, 1);
    assert.is((await collect(rows(`{"text": "a", "${name}": {"text": "b"}}`))).length, 1);

    const config = (change: object) => () =>
      architectureFromConfig({ ...tinyConfig, ...change }, 'config.json');
    await refused(config({ model_type: name }), 'UNSUPPORTED_FAMILY', 'config.json');
    await refused(config({ hidden_act: name }), 'UNSUPPORTED_FAMILY', 'config.json');
    await refused(config({ rope_scaling: { rope_type: name } }), 'UNSUPPORTED_FAMILY', 'config.json');
    assert.is(config({ torch_dtype: name })().dtype, null);
    assert.ok(config(JSON.parse(`{"${name}": {"hidden_size": 7}}`))().hidden === 32);

    const header = Buffer.from(JSON.stringify({ a: { dtype: name, shape: [1], data_offsets: [0, 4] } }));
    await refused(
      () => parseHeader(header, header.length + 12, 'a.safetensors'),
      'CHECKPOINT_CORRUPT',
      'a.safetensors',
    );
    const tensor = Buffer.from(`{"${name}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}`);
    assert.is(parseHeader(tensor, tensor.length + 12, 'a').entries[0]!.name, name);

    assert.is(onOff.read(name), undefined);
    assert.is(onCommandLine(`give \`${name}\``), `give \`${name}\``);
    await refused(() => mapPruneConfig(JSON.parse(`{"${name}": 1}`), 'c.yaml'), 'CONFIG_INVALID', 'c.yaml');
    await refused(() => mapPruneConfig({ method: name, scaled: name }, 'c.yaml'), 'CONFIG_INVALID', 'c.yaml');
    writeFileSync(path('c.yaml'), `${name}: 1\n`);
    await refused(() => readPruneConfig(path('c.yaml')), 'CONFIG_INVALID', path('c.yaml'));
    writeFileSync(path('task.yaml'), `${name}: 1\noutput_type: multiple_choice\n`);
    await refused(() => readTaskFile(path('task.yaml')), 'CONFIG_INVALID', path('task.yaml'));
  });
}

const deep = (levels: number, open = '[', close = ']') => `${open.repeat(levels)}1${close.repeat(levels)}`;
const bomb = `a: &a [1,1,1,1,1,1,1,1,1]\n${[...'bcdefghi']
  .map((letter, i) => `${letter}: &${letter} [${Array(9).fill(`*${'abcdefghi'[i]}`).join(',')}]\n`)
  .join('')}`;

test('aliases that stand for much, and deep nesting, are errors with a code', async () => {
  using folder = temporaryFolder();
  const path = (file: string) => join(folder.path, file);
  await writeTinyModel(folder.path);
  const block = Array.from({ length: 2000 }, (_, i) => `${' '.repeat(i)}a:\n`).join('');
  for (const [what, text, words] of [
    ['a bomb of aliases', bomb, /aliases \(\*name\) stand for too many values/],
    ['an unknown alias', 'layers: *x\n', /neither JSON nor YAML: "Unresolved alias/],
    ['flow', deep(3000), /more than 100 levels/],
    ['flow in the thousands', deep(100_000), /more than 100 levels/],
    ['objects', deep(3000, '{"a":', '}'), /more than 100 levels/],
    ['blocks', block, /more than 100 levels/],
    ['lists in a line', `${'- '.repeat(50_000)}1`, /more than 100 levels/],
    ['keys in a line', `${'? '.repeat(50_000)}1`, /more than 100 levels/],
    ['as deep as may be', deep(100), /is not a list of/],
    ['no YAML', 'a: b: c\n', /yaml:1: neither JSON nor YAML: "/],
    ['a tag of Python', 'layers: !!python/object:os.system x\n', /yaml:1: neither JSON nor YAML: "/],
    ['a key twice', 'layers: 1\nlayers: 2\n', /yaml:\d: neither JSON nor YAML: "/],
    ['much', `# ${'x'.repeat(17 * 2 ** 20)}`, /has more than 16 MiB/],
  ] as const) {
    writeFileSync(path('c.yaml'), text);
    for (const read of [readPruneConfig, readTaskFile]) {
      const began = performance.now();
      assert.match(await refused(() => read(path('c.yaml')), 'CONFIG_INVALID', path('c.yaml')), words, what);
      assert.ok(performance.now() - began < 5000, what);
    }
  }
  const nested = `{"text": "a", "b": ${deep(100_000)}}`;
  writeFileSync(path('rows.jsonl'), nested);
  assert.match(
    await refused(() => collect(path('rows.jsonl')), 'DATA_INVALID', path('rows.jsonl')),
    /500 levels/,
  );
  writeFileSync(path('rows.json'), `[${nested}]`);
  await refused(() => collect(path('rows.json')), 'DATA_INVALID', path('rows.json'));
  const header = Buffer.from(deep(100_000));
  await refused(
    () => parseHeader(header, header.length + 8, 'a.safetensors'),
    'CHECKPOINT_CORRUPT',
    'a.safetensors',
  );
  for (const file of ['config.json', 'tokenizer.json']) {
    const kept = readFileSync(path(file), 'utf8');
    writeFileSync(path(file), kept.replace('{', `{"deep": ${deep(100_000)},`));
    const { loadTokenizer } = await import('../model/index.js');
    const read =
      file === 'config.json' ? () => readArchitecture(folder.path) : () => loadTokenizer(folder.path);
    await refused(read, 'CONFIG_INVALID', path(file));
    writeFileSync(path(file), kept);
  }
});

test('something that is no file is not read for ever', async () => {
  if (process.platform === 'win32') return;
  using folder = temporaryFolder();
  await writeTinyModel(folder.path);
  const config = join(folder.path, 'config.json');
  execFileSync('rm', [config]);
  execFileSync('mkfifo', [config]);
  assert.match(
    await refused(() => readArchitecture(folder.path), 'CHECKPOINT_MISSING', config),
    /is not a file/,
  );
});

test("a library's words are a quoted detail of one line, after ours", () => {
  const cause = new SyntaxError('Unexpected token\n  at <anonymous>:1:2\u0007');
  const { message } = describeFailure(
    new RmError('DATA_INVALID', 'a.json: is damaged', 'Mend it.', { cause }),
  );
  assert.is(message, 'a.json: is damaged: "Unexpected token"');
  const missing = Object.assign(new Error("EACCES: permission denied, open 'x'"), {
    code: 'EACCES',
    syscall: 'open',
  });
  const said = describeFailure(
    new RmError('OUTPUT_FAILED', 'x: cannot be written', 'Mend it.', { cause: missing }),
  );
  assert.is(said.message, 'x: cannot be written: permission denied');
  const odd = describeFailure(new TypeError('x is not a function\n at y'));
  assert.is(odd.code, 'UNEXPECTED');
  assert.is(odd.message, 'a failure that rm-engine does not expect: "x is not a function"');
});

const sourcesIn = (folder: string): string[] =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry => {
    const path = `${folder}/${entry.name}`;
    return entry.isDirectory() ? sourcesIn(path) : path.endsWith('.ts') ? [path] : [];
  });
const sources = ['engine', 'kernels', 'model', 'replaceme', 'cli'].flatMap(sourcesIn);

test('no message of ours takes over the words of a library as they are', () => {
  // Errors that are ours already: an RmError's message begins a longer one.
  const ours = ['model/text/chat.ts', 'model/tasks/templates.ts', 'model/text/documents.ts'];
  ours.push(
    'model/checkpoint/safetensors.ts',
    'cli/prune/devices.ts',
    'cli/terminal/failure.ts',
    'model/text/tokenizer.ts',
    'replaceme/pruning/smallerPlans.ts',
    'cli/gpuCheck/stepProcess.ts',
    'model/serving/httpFailure.ts',
  );
  const raw = /\$\{[^}]*(error|cause|problem|reason|e)\b[^}]*\.message\b/;
  const found = sources
    .filter(file => !ours.includes(file))
    .filter(file => raw.test(readFileSync(join(root, file), 'utf8')));
  assert.equal(found, []);
});

test('JSON of others is parsed where levels are bounded', () => {
  const own = [
    ...[
      'engine/json.ts',
      'engine/softwareDriver.ts',
      'model/files/pythonJson.ts',
      'model/files/parquetRows.ts',
    ],
    ...['model/checkpoint/safetensorsHeader.ts', 'model/jinja/python.ts', 'replaceme/resume/runLock.ts'],
    ...['replaceme/report/finishedReport.ts', 'replaceme/compare/rows.ts', 'replaceme/run/packageVersion.ts'],
    ...[
      'replaceme/run/recipe.ts',
      'cli/terminal/version.ts',
      'cli/prune/devices.ts',
      'cli/bench/measuring.ts',
      'cli/doctor/adapterListing.ts',
    ],
  ];
  const found = sources.filter(file =>
    /^(?! \*).*JSON\.parse\(/m.test(readFileSync(join(root, file), 'utf8')),
  );
  assert.equal(
    found.filter(file => !own.includes(file)),
    [],
  );
});

test.run();
