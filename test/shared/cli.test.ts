import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { rmEngine } from '../cli/support.js';
import { maxAbsError } from '../gpu.js';
import { readGolden, saySkipped, sharedPath, temporaryFolder } from '../support.js';

const found = sharedPath('golden', 'families', 'llama');
const llama = found ?? '';
/** A text of the kind that the tiny model's tokenizer knows, some 300 tokens. */
const text = 'the cat sat on the mat and looked at the moon\n\n'.repeat(16);

/** A model folder of its own: the golden one may be read-only. */
function copyModel(to: string): void {
  mkdirSync(to);
  for (const name of readdirSync(llama)) {
    if (!/^(golden|replaceme)\./.test(name)) writeFileSync(join(to, name), readFileSync(join(llama, name)));
  }
}

test('inspect, as text and as JSON', async () => {
  const { status, stdout } = await rmEngine(['inspect', llama, '--json']);
  assert.is(status, 0);
  const summary = JSON.parse(stdout);
  // By hand from config.json: 2 x 512 x 64; 5 x 4 x 64 x 64; 5 x 3 x 64 x 96; 11 x 64.
  assert.equal(summary.parameters, {
    ...{ embedding: 32_768, attention: 81_920, mlp: 92_160, norms: 704, lmHead: 32_768 },
    ...{ perLayer: 34_944, total: 240_320 },
  });
  assert.equal(summary.dtypes, { f32: 48 });
  assert.equal(summary.bytes, { checkpoint: 961_280, weights: 961_280, cachePerToken: 2560 });
  assert.equal(summary.unusedTensors, []);
  const lines = (await rmEngine(['inspect', llama])).stdout;
  assert.match(lines, /^layers +5 of 34,944 parameters$/m);
  assert.match(lines, /^total +240,320 +100\.0 %$/m);
});

test('logits and hidden states are those of transformers', async () => {
  using folder = temporaryFolder();
  const golden = await readGolden(join(llama, 'golden.safetensors'));
  const ids = golden.get('input_ids')!;
  const [sequences, length] = ids.shape as [number, number];
  const list = Array.from({ length: sequences }, (_, s) => [
    ...ids.values.slice(s * length, (s + 1) * length),
  ]);
  writeFileSync(join(folder.path, 'ids.json'), JSON.stringify(list));
  const out = join(folder.path, 'deep', 'out.safetensors');
  const args = ['logits', llama, '--ids', join(folder.path, 'ids.json'), '--out', out, '--taps', '--json'];
  const { status, stdout } = await rmEngine(args);
  assert.is(status, 0);
  const written = await readGolden(out);
  assert.equal(new Set(JSON.parse(stdout).tensors), new Set(written.keys()));
  const names = ['embedding', 'layer.0', 'layer.1', 'layer.2', 'layer.3', 'layer.4', 'final_norm'];
  assert.is(written.size, sequences * (1 + names.length));
  for (const [ours, theirs] of [['logits', 'logits'], ...names.map(name => [`hidden.${name}`, name])]) {
    const expected = golden.get(theirs!)!;
    const size = expected.values.length / sequences;
    for (let s = 0; s < sequences; s++) {
      const { shape, values } = written.get(`s${s}.${ours}`)!;
      assert.equal(shape, expected.shape.slice(1));
      assert.ok(maxAbsError(values, expected.values.slice(s * size, (s + 1) * size)) < 1e-3, `s${s}.${ours}`);
    }
  }
});

test('bad token ids are named, and nothing is written', async () => {
  using folder = temporaryFolder();
  const [ids, out] = [join(folder.path, 'ids.json'), join(folder.path, 'l.safetensors')];
  const cases: [content: string, said: RegExp][] = [
    ['[1, 2, 512]', /entry 2 of sequence 0 is 512/],
    ['[[1], [2, -1]]', /entry 1 of sequence 1 is -1/],
    ['[1.5]', /entry 0 of sequence 0 is 1\.5/],
    ['[[1], []]', /sequence 1 is empty/],
    ['[]', /sequence 0 is empty|holds no token ids/],
    ['{}', /is not an array/],
    ['[1,', /is not valid JSON/],
    [JSON.stringify(new Array(129).fill(1)), /sequence 0 has 129 tokens, the model's context is 128/],
  ];
  for (const [content, said] of cases) {
    writeFileSync(ids, content);
    const { status, stdout, stderr } = await rmEngine(['logits', llama, '--ids', ids, '--out', out]);
    assert.equal([status, stdout], [1, ''], content);
    assert.match(stderr, said);
    assert.match(stderr, /\(DATA_INVALID\)/);
  }
  assert.equal(readdirSync(folder.path), ['ids.json']);
});

test('an output file in the way stays as it is', async () => {
  using folder = temporaryFolder();
  const [ids, out] = [join(folder.path, 'ids.json'), join(folder.path, 'l.safetensors')];
  writeFileSync(ids, '[1, 2]');
  writeFileSync(out, 'mine');
  const args = ['logits', llama, '--ids', ids, '--out', out];
  const refused = await rmEngine([...args, '--force']);
  assert.is(refused.status, 1);
  assert.match(refused.stderr, /may not be replaced.*\(OUTPUT_EXISTS\)/);
  assert.is(readFileSync(out, 'utf8'), 'mine');
  rmSync(out);
  assert.is((await rmEngine(args)).status, 0);
  assert.match((await rmEngine(args)).stderr, /\(OUTPUT_EXISTS\)[\s\S]*--force/);
  assert.is((await rmEngine([...args, '--force'])).status, 0);
  assert.equal((await readGolden(out)).get('s0.logits')!.shape, [2, 512]);
});

test('generate: the streamed text is that of --json; a closed stdout ends it quietly', async () => {
  const args = ['generate', llama, 'the cat', '--max-tokens', '12'];
  const [streamed, json] = [await rmEngine(args), await rmEngine([...args, '--json'])];
  assert.is(streamed.status, 0);
  const result = JSON.parse(json.stdout);
  assert.is(streamed.stdout, `${result.text}\n`);
  assert.is(result.ids.length, 12);
  assert.is(result.stopped, 'length');
  assert.match(streamed.stderr, /^12 tokens in /m);
  const drawn = ['--temperature', '1', '--seed', '7', '--json', '--chat'];
  const twice = [await rmEngine([...args, ...drawn]), await rmEngine([...args, ...drawn])];
  assert.equal(...(twice.map(({ stdout }) => JSON.parse(stdout).ids) as [number[], number[]]));
  const cut = await rmEngine([...args.slice(0, 3), '--max-tokens', '100'], { closeStdoutEarly: true });
  assert.is(cut.status, 0, cut.stderr);
  assert.not.match(cut.stderr, /EPIPE|error/);
  assert.match(
    (await rmEngine(['generate', llama, '-', '--max-tokens', '2'], { input: 'the' })).stderr,
    /2 tokens/,
  );
});

test('prune, then eval against the original', async () => {
  using folder = temporaryFolder();
  const [file, out] = [join(folder.path, 'text.txt'), join(folder.path, 'out')];
  writeFileSync(file, text);
  const config = join(folder.path, 'replaceme.yaml');
  writeFileSync(config, `method: lstsq\nlayers_to_skip: 4\ndataset: ${file}\nuse_4bit: true\n`);
  const args = ['prune', llama, out, '--config', config, '--layers', '2', '--window', '1', '--alpha', '0.1'];
  const plan = await rmEngine([...args, '--dry-run', '--json']);
  assert.is(plan.status, 0, plan.stderr);
  assert.is(JSON.parse(plan.stdout).summary, 'keep 1, remove 2..3 (2 of 5 layers)');
  assert.not(existsSync(out), '--dry-run writes nothing');
  const pruned = await rmEngine([...args, '--json']);
  assert.is(pruned.status, 0, pruned.stderr);
  assert.match(pruned.stderr, /warning: .*"use_4bit" is not used: /);
  const report = JSON.parse(pruned.stdout);
  assert.equal(report.output.keptLayers, [0, 1, 4]);
  assert.equal(
    report.calibration.files.map(({ path }: { path: string }) => path),
    [file],
  );
  const summary = JSON.parse((await rmEngine(['inspect', out, '--json'])).stdout);
  assert.is(summary.layers, 3);
  const again = await rmEngine(args);
  assert.is(again.status, 1);
  assert.match(again.stderr, /\(OUTPUT_EXISTS\)/);

  const same = JSON.parse((await rmEngine(['eval', llama, file, '--against', llama, '--json'])).stdout);
  assert.is(same.files[0].top1, 1);
  assert.ok(same.files[0].kl < 1e-6);
  assert.is(same.files[0].perplexity, same.files[0].againstPerplexity);
  const table = (await rmEngine(['eval', out, file, '--against', llama])).stdout.split('\n');
  assert.match(table[0]!, /^file +tokens +perplexity +perplexity of other +KL \(nats\) +same top-1$/);
  assert.ok(table[1]!.startsWith(file));
});

test('Ctrl-C: exit code 130, and nothing half-written', async () => {
  using folder = temporaryFolder();
  copyModel(join(folder.path, 'model'));
  const args = [
    'prune',
    join(folder.path, 'model'),
    join(folder.path, 'out'),
    '--layers',
    '2',
    '--tokens',
    '1000000',
  ];
  const { status, stdout, stderr } = await rmEngine(args, { interruptAfterMs: 800 });
  assert.equal([status, stdout], [130, ''], stderr);
  assert.match(stderr, /^interrupted$/m);
  assert.not.match(stderr, /\n {4}at /);
  assert.equal(readdirSync(folder.path), ['model']);
});

if (found) test.run();
else saySkipped('the commands on a model need the golden models of ../shared');
