/** Ctrl-C while a tokenizer works, or a tokenizer that crashes: about 10 seconds. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { shippedPath } from '../../model/index.js';
import { temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

/** The demo model with another normalizer or pre-tokenizer, and a text. */
function place(parts: Record<string, unknown>) {
  const folder = temporaryFolder();
  const [model, text] = [join(folder.path, 'model'), join(folder.path, 'text.txt')];
  cpSync(shippedPath('demo-model'), model, { recursive: true });
  const path = join(model, 'tokenizer.json');
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...parts }));
  writeFileSync(text, `${'a'.repeat(200)}! `.repeat(1000));
  return { model, text, [Symbol.dispose]: () => folder[Symbol.dispose]() };
}

test('Ctrl-C ends a command whose tokenizer takes for ever', async () => {
  const replace = { type: 'Replace', pattern: { Regex: 'a+b' }, content: 'x' };
  using files = place({ normalizer: { type: 'Sequence', normalizers: new Array(2000).fill(replace) } });
  const started = performance.now();
  const { status, stderr } = await rmEngine(['eval', files.model, files.text, '--verbose'], {
    interruptAfterMs: 4000,
  });
  assert.is(status, 130, stderr);
  assert.match(stderr, /interrupted/);
  assert.ok(performance.now() - started < 30_000);
});

test('a tokenizer that crashes is an error that names its file', async () => {
  const pattern = { Regex: '(a+)+$' };
  using files = place({ pre_tokenizer: { type: 'Split', pattern, behavior: 'Isolated', invert: false } });
  const { status, stderr } = await rmEngine(['eval', files.model, files.text]);
  assert.is(status, 1);
  assert.match(stderr, /the tokenizer fails on a text: "it crashed: .*retry-limit.*CONFIG_INVALID/);
  assert.match(stderr, /where: .*model.tokenizer\.json/);
  assert.not.match(stderr, /panicked|backtrace|node:internal/);
});

test.run();
