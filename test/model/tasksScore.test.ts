import { createHash } from 'node:crypto';
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, tensorFrom } from '../../engine/index.js';
import { shippedPath } from '../../model/files/shippedPath.js';
import { loadTokenizer, logits, Model } from '../../model/index.js';
import { encodeRequests, type TokenRequest } from '../../model/tasks/encodeRequest.js';
import { RequestCache } from '../../model/tasks/index.js';
import { scoreRequests } from '../../model/tasks/scoreRequests.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const folder = temporaryFolder();
test.before(() => writeTinyModel(folder.path));
test.after(() => folder[Symbol.dispose]());

const bytes = (text: string) => [...new TextEncoder().encode(text)];
const request = (context: string, continuation: string): TokenRequest => ({
  context: bytes(context),
  continuation: bytes(continuation),
});

/** Contexts of several choices, one that begins another, single tokens, one request twice, one too long for the model. */
const examples = 'A few words that stand before all. ';
const requests = [
  ...['a', 'b', ' cd', ' ce and more'].map(choice => request(`${examples}One?`, choice)),
  ...['x', ' a long choice', ' a longer choice'].map(choice => request(`${examples}One? Two?`, choice)),
  ...['yes', 'no'].map(choice => request('Another beginning', choice)),
  request(`${examples}One?`, 'b'),
  request('z'.repeat(100) + 'y'.repeat(60), 'and its end'),
  request('q', 'u'),
];

async function withModel<T>(work: (model: Model) => Promise<T>): Promise<T> {
  const device = await Device.open();
  try {
    using model = await Model.load(device, folder.path);
    return await work(model);
  } finally {
    await device.close();
  }
}

/** log p and whether it is the most likely text, by f64 softmax of all logits of the request alone. */
async function byLogits(model: Model, { context, continuation }: TokenRequest) {
  const { contextLength, vocab } = model.arch;
  const ids = [...context, ...continuation].slice(-(contextLength + 1)).slice(0, -1);
  const { logits: all } = await logits(model, ids);
  let logLikelihood = 0;
  let isGreedy = true;
  for (const [i, target] of continuation.entries()) {
    const at = ids.length - continuation.length + i;
    const row = Float64Array.from(all.subarray(at * vocab, (at + 1) * vocab));
    const largest = Math.max(...row);
    logLikelihood +=
      row[target]! - largest - Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0));
    isGreedy &&= row.indexOf(largest) === target;
  }
  return { logLikelihood, isGreedy };
}

test('log-likelihoods are those of the logits', async () => {
  await withModel(async model => {
    // What the model would say itself is greedy.
    const { logits: all } = await logits(model, bytes('Say'));
    const last = all.subarray(2 * model.arch.vocab);
    const own = { context: bytes('Say'), continuation: [last.indexOf(Math.max(...last))] };
    const wanted = [...requests, own];
    const expected: { logLikelihood: number; isGreedy: boolean }[] = [];
    for (const one of wanted) expected.push(await byLogits(model, one));
    assert.ok(expected.at(-1)!.isGreedy);
    for (const batchTokens of [1, 64, 4096]) {
      const { answers } = await scoreRequests(model, wanted, { batchTokens });
      for (const [i, { logLikelihood, isGreedy }] of answers.entries()) {
        const error = Math.abs(logLikelihood / expected[i]!.logLikelihood - 1);
        assert.ok(error < 1e-6, `request ${i}, by ${batchTokens} tokens: ${error}`);
        assert.is(isGreedy, expected[i]!.isGreedy, `request ${i}`);
      }
    }
  });
});

test('what requests share is computed once', async () => {
  await withModel(async model => {
    const shared = 's'.repeat(60);
    const choices = ['1', '2', '3', '45', '46'].map(text => request(shared, text));
    // The model's table of rotations grows with the longest sequence and stays.
    await scoreRequests(model, choices);
    const live = model.device.memory.liveBytes;
    const batches: number[] = [];
    // 60 tokens and a '4': the last token of a continuation is predicted and not read.
    const onProgress = ({ done }: { done: number }) => void batches.push(done);
    await scoreRequests(model, choices, { batchTokens: 61, onProgress });
    assert.equal(batches, [5]);
    await scoreRequests(model, choices, { batchTokens: 60, onProgress });
    assert.equal(batches, [5, 3, 5]);
    assert.is(model.device.memory.liveBytes, live, 'nothing is left on the device');
  });
});

test('a model whose layers go to the device in turn gives the same numbers', async () => {
  await withModel(async model => {
    await using streamed = await Model.load(model.device, folder.path, { offload: { prefetch: true } });
    for (const batchTokens of [60, 4096]) {
      const whole = await scoreRequests(model, requests, { batchTokens });
      assert.equal(await scoreRequests(streamed, requests, { batchTokens }), whole);
    }
  });
});

test('an interrupted run goes on where it was, with the same numbers', async () => {
  await withModel(async model => {
    using place = temporaryFolder();
    const path = join(place.path, 'deep', 'answers.jsonl');
    const options = { batchTokens: 60 };
    const whole = await scoreRequests(model, requests, options);
    assert.is(whole.requests, requests.length - 1, 'one stands twice');
    const stop = new AbortController();
    {
      using cache = await RequestCache.open(path);
      await stops(() =>
        scoreRequests(model, requests, {
          ...options,
          cache,
          signal: stop.signal,
          onProgress: () => stop.abort(new Error('stopped')),
        }),
      );
    }
    // As kill -9 in the middle of a line would leave it.
    const text = readFileSync(path, 'utf8');
    const lines = text.trimEnd().split('\n').length;
    assert.ok(lines > 0 && lines < whole.requests);
    appendFileSync(path, '["torn');
    {
      using cache = await RequestCache.open(path);
      const rest = await scoreRequests(model, requests, { ...options, cache });
      assert.is(rest.cached, lines);
      assert.equal(rest.answers, whole.answers, 'bit by bit');
    }
    {
      using cache = await RequestCache.open(path);
      const again = await scoreRequests(model, requests, { ...options, cache });
      assert.is(again.cached, whole.requests, 'the torn line has spoilt none behind it');
      assert.equal(again.answers, whole.answers);
    }
    truncateSync(path, 10);
    using cache = await RequestCache.open(path);
    assert.is(cache.size, 0);
  });
});

async function stops(work: () => Promise<unknown>): Promise<void> {
  let message = 'nothing was thrown';
  await work().catch(error => {
    message = error.message;
  });
  assert.is(message, 'stopped');
}

test('a continuation longer than the context and a damaged model are refused', async () => {
  await withModel(async model => {
    await rejectsWith(() => scoreRequests(model, [request('a', 'x'.repeat(129))]), 'DATA_INVALID');
    using finalNorm = tensorFrom(model.device, new Float32Array(32).fill(Number.NaN), [32], 'damaged norm');
    const damaged = model.withLayers([0, 1, 2, 3, 4, 5], { finalNorm });
    await rejectsWith(() => scoreRequests(damaged, requests), 'NOT_FINITE');
  });
});

/** The ids are those of lm-eval 0.4.13's _encode_pair with the same tokenizer. */
test('requests are encoded as lm-eval encodes them', async () => {
  using tokenizer = await loadTokenizer(shippedPath('demo-model'));
  const encode = async (context: string, continuation: string) => {
    const [encoded] = await encodeRequests(tokenizer, [
      { request: { context, continuation }, where: 'row 1' },
    ]);
    return [encoded!.context, encoded!.continuation];
  };
  assert.equal(await encode('The cat sat ', 'on'), [[639, 278, 297, 803], [338]]);
  assert.equal(await encode('A:', ' rain'), [
    [33, 26],
    [528, 366],
  ]);
  assert.equal(await encode('line\n\n', 'x'), [
    [76, 541],
    [199, 199, 88],
  ]);
  assert.equal(await encode('', 'Hi'), [[0], [40, 73]], 'an empty context is the BOS');
  assert.match(await rejectsWith(() => encode('A:', ''), 'DATA_INVALID'), /row 1: the continuation ""/);
});

test('a line of the cache is believed only as it was written, in the file that it was written to', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'answers.jsonl');
  {
    using cache = await RequestCache.open(path);
    cache.add([
      ['a', { logLikelihood: -1.5, isGreedy: true }],
      ['c', { logLikelihood: -2, isGreedy: false }],
    ]);
  }
  const lines = readFileSync(path, 'utf8');
  // SHA-256 by hand, of the file's name and the parts.
  const hash = createHash('sha256').update('["answers.jsonl","a",-1.5,1]').digest('hex').slice(0, 16);
  assert.is(lines.split('\n')[0], `["a",-1.5,1,"${hash}"]`);
  const read = async (content: string, file = path) => {
    writeFileSync(file, content);
    using cache = await RequestCache.open(file);
    return { keys: ['a', 'b', 'c'].filter(key => cache.get(key)), disbelieved: cache.disbelieved };
  };
  assert.equal(await read(`not json\n${lines}["b"`), { keys: ['a', 'c'], disbelieved: 0 });
  for (const [what, content] of [
    ['another number', lines.replace('-1.5', '-0.5')],
    ['another answer', lines.replace('-1.5,1', '-1.5,0')],
    ['another request', lines.replace('"a"', '"b"')],
    ['no hash, as earlier builds wrote', `["a",-1.5,1]\n${lines.split('\n')[1]}\n`],
    ['nonsense', `["a",null,7,"x"]\n${lines.split('\n')[1]}\n`],
    ['too deep', `${'['.repeat(5000)}${']'.repeat(5000)}\n{"a":1}\n${lines.split('\n')[1]}\n`],
  ] as const) {
    assert.equal(await read(content), { keys: ['c'], disbelieved: 1 }, what);
  }
  const other = join(place.path, 'of-another-model.jsonl');
  assert.equal(await read(lines, other), { keys: [], disbelieved: 2 });
});

test.run();
