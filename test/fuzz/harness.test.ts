// The fuzz itself: planted faults of each kind are found, told apart and made smaller. Costs 30 s, most of it starting children.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { campaign } from './campaign.js';
import { bytesOf } from './files.js';
import { minimise } from './minimise.js';
import { jsonMutator } from './mutators/json.js';
import { Random } from './random.js';
import { inputAt, loadTarget } from './target.js';
import { targets, targetsNamed } from './targets/index.js';

const planted = new URL('planted.js', import.meta.url).href;

for (const [letter, kind, message] of [
  ['H', 'hang', /more than 1.5 s/],
  ['C', 'crash', /SIGABRT|exit code/],
  ['T', 'error', /TypeError/],
  ['M', 'memory', /MiB|memory/],
  ['R', 'error', /nobody awaits this/],
] as const) {
  test(`a planted fault is found and made smaller: ${kind} (${letter})`, async () => {
    process.env.RM_PLANTED = letter;
    const { inputs, read, refused, findings } = await campaign(planted, {
      ...{ seconds: 2, seed: 7, limits: { seconds: 1.5, memory: 400 << 20 } },
      effort: { milliseconds: 20_000, tries: 12 },
    });
    assert.is(findings.length, 1);
    const [{ fault, input, repeats }] = findings as [(typeof findings)[0]];
    assert.is(fault.kind, kind);
    assert.match(fault.message, message);
    assert.is(repeats, true);
    assert.is(new TextDecoder().decode(input), letter);
    assert.ok(inputs >= read + refused + 1);
    assert.ok(read > 0);
  });
}

test('a refusal by an RmError is no fault', async () => {
  process.env.RM_PLANTED = '';
  const { read, refused, findings } = await campaign(planted, { seconds: 2, seed: 7 });
  assert.equal(findings, []);
  assert.ok(read > 0 && refused > 0);
});

test('a seed gives the same inputs again', async () => {
  const target = await loadTarget(targets.jsonl!);
  const corpus = await target.corpus('');
  const inputs = (seed: number) =>
    Array.from({ length: 50 }, (_, i) =>
      Buffer.from(inputAt(target, corpus, new Random(seed, i))).toString('hex'),
    );
  assert.equal(inputs(5), inputs(5));
  assert.not.equal(inputs(5), inputs(6));
});

test('JSON: types, numbers, NaN, nesting, prototypes, doubled and missing fields all appear', () => {
  const mutate = jsonMutator();
  const original = bytesOf({ name: 'x', list: [1, 2], inner: { count: 3 } });
  const texts = Array.from({ length: 3000 }, (_, i) =>
    new TextDecoder().decode(mutate(original, new Random(1, i))),
  );
  for (const pattern of [
    /NaN/,
    /1e400/,
    /\[{5}/,
    /"__proto__":/,
    /"name":.*"name":/,
    /^(?!.*"name")/,
    /9007199254740992/,
    /""/,
  ]) {
    assert.ok(
      texts.some(text => pattern.test(text)),
      `${pattern}`,
    );
  }
});

test('deep nesting is made smaller in pairs', async () => {
  const deep = (levels: number) => `x${'['.repeat(levels)}0${']'.repeat(levels)}`;
  const fails = async (input: Uint8Array) => {
    const depth = /\[*/.exec(`${Buffer.from(input)}`.slice(1))![0].length;
    return `${Buffer.from(input)}` === deep(depth) && depth >= 5000;
  };
  const smallest = await minimise(bytesOf(deep(20_000)), fails, { milliseconds: 1000, tries: 5 });
  assert.ok(smallest.length < 12_000, `${smallest.length}`);
});

test('a word names one target, or all that begin with it', () => {
  assert.equal(targetsNamed('yaml'), ['yaml', 'yaml/task']);
  assert.equal(targetsNamed('all'), Object.keys(targets));
  assert.equal(targetsNamed('nothing'), []);
});

test.run();
