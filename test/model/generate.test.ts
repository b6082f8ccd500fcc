import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { DecodingSession } from '../../model/generation/decodingSession.js';
import { generate } from '../../model/generation/generate.js';
import { generateTogether } from '../../model/generation/generateTogether.js';
import { Batch } from '../../model/transformer/batch.js';
import { KvCache } from '../../model/transformer/kvCache.js';
import { logits } from '../../model/transformer/logits.js';
import { Model } from '../../model/transformer/model.js';
import { forward } from '../../model/transformer/transformer.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { tinyConfig, writeTinyModel } from '../tinyModel.js';

const folder = temporaryFolder();
let device: Device;
let model: Model;

test.before(async () => {
  await writeTinyModel(folder.path);
  device = await Device.open();
  model = await Model.load(device, folder.path);
});

test.after(async () => {
  model.dispose();
  await device.close();
  folder[Symbol.dispose]();
});

const prompt = [17, 200, 33, 4, 250];
const context = tinyConfig.max_position_embeddings;

/** The most likely token after `ids`, from the logits of the whole sequence: no cache. */
async function next(ids: readonly number[]): Promise<number> {
  const { logits: values } = await logits(model, ids);
  const last = Array.from(values.subarray(-model.arch.vocab));
  return last.indexOf(Math.max(...last));
}

test('greedy: each token is the argmax of the logits of everything before it', async () => {
  const expected: number[] = [];
  for (let i = 0; i < 12; i++) expected.push(await next([...prompt, ...expected]));
  const streamed: number[] = [];
  const before = device.memory.liveBytes;
  const found = await generate(model, prompt, { maxTokens: 12, onToken: id => streamed.push(id) });
  assert.equal(found, expected);
  assert.equal(streamed, expected);
  assert.is(device.memory.liveBytes, before, 'cache and activations are given back');
});

test('a token costs one submit and one download, and nothing grows', async () => {
  const { gpu, memory, recorder } = device;
  const made = { groups: 0, downloads: 0 };
  const [createBindGroup, createBuffer] = [gpu.createBindGroup.bind(gpu), gpu.createBuffer.bind(gpu)];
  gpu.createBindGroup = descriptor => {
    made.groups++;
    return createBindGroup(descriptor);
  };
  gpu.createBuffer = descriptor => {
    if (descriptor.usage & GPUBufferUsage.MAP_READ) made.downloads++;
    return createBuffer(descriptor);
  };
  try {
    for (const temperature of [0, 1]) {
      const counts: number[][] = [];
      const onToken = () =>
        counts.push([recorder.submits, made.downloads, made.groups, memory.liveBytes, memory.peakBytes]);
      await generate(model, prompt, { maxTokens: 30, temperature, onToken });
      // The first token is the prompt's; a few later the pool hands out its buffers in the same order every time.
      for (let t = 2; t < counts.length; t++) {
        const change = counts[t]!.map((count, i) => count - counts[t - 1]![i]!);
        const what = `temperature ${temperature}, token ${t}`;
        assert.equal(change.slice(0, 2), [1, 1], `${what}: submits, downloads`);
        if (t >= 10) assert.equal(change.slice(2), [0, 0, 0], `${what}: bind groups, live bytes, peak bytes`);
      }
    }
  } finally {
    gpu.createBindGroup = createBindGroup;
    gpu.createBuffer = createBuffer;
  }
});

test('an end-of-text token ends the text and is not returned', async () => {
  const all = await generate(model, prompt, { maxTokens: 8 });
  const end = all[3]!;
  const found = await generate(model, prompt, { maxTokens: 8, eosIds: [300, end] });
  assert.equal(found, all.slice(0, all.indexOf(end)));
});

test('the same seed gives the same text', async () => {
  const draw = (seed: number) => generate(model, prompt, { maxTokens: 10, temperature: 1, topK: 50, seed });
  assert.equal(await draw(3), await draw(3));
  assert.not.equal(await draw(3), await draw(4));
});

test('a text ends where the context is full', async () => {
  const long = Array.from({ length: context - 3 }, (_, i) => i % 256);
  assert.is((await generate(model, long, { maxTokens: 50 })).length, 3);
});

test('a prompt that is empty, too long or not of this vocabulary is a typed error', async () => {
  const one = { maxTokens: 1 };
  assert.match(await rejectsWith(() => generate(model, [], one), 'INVALID_ARGUMENT'), '0 tokens');
  const long = new Array<number>(context).fill(1);
  assert.match(
    await rejectsWith(() => generate(model, long, one), 'INVALID_ARGUMENT'),
    `context is ${context}`,
  );
  const before = device.memory.liveBytes;
  for (const id of [260, -1, 1.5]) {
    assert.match(
      await rejectsWith(() => generate(model, [1, id], one), 'INVALID_ARGUMENT'),
      `token id ${id}`,
    );
  }
  assert.is(device.memory.liveBytes, before);
});

test('a cache too small for the tokens is a typed error before anything is computed', async () => {
  using cache = new KvCache(device, model.arch, 3);
  using batch = new Batch(device, [prompt]);
  const before = device.recorder.dispatches;
  const message = await rejectsWith(() => forward(model, batch, { cache }), 'INVALID_ARGUMENT');
  assert.match(message, 'holds 3 tokens, 5 are needed');
  assert.is(device.recorder.dispatches, before);
});

test('a session computes only what is new, and continues as from scratch', async () => {
  const before = device.memory.liveBytes;
  const computed: number[] = [];
  {
    using session = new DecodingSession(model);
    const continued = async (ids: readonly number[], maxTokens: number) => {
      const found: number[] = [];
      const text = session.continue(ids, { maxTokens });
      for await (const id of text) found.push(id);
      assert.equal(found, await generate(model, ids, { maxTokens }));
      computed.push(ids.length - text.reused);
      return found;
    };
    const first = await continued(prompt, 6);
    // The last new token was never put in; with one more there are two to compute.
    const longer = [...prompt, ...first, 9];
    await continued(longer, 4);
    // The same again: the last token runs anyway.
    await continued(longer, 4);
    // Another end, a shorter one, one that grows the cache, one that has nothing in common.
    await continued([...longer.slice(0, 8), 77, 78], 5);
    await continued(prompt, 3);
    await continued([...prompt, ...Array.from({ length: 60 }, (_, i) => (7 * i) % 256)], 40);
    await continued([1, 2, 3], 3);
  }
  assert.equal(computed, [5, 2, 1, 2, 5, 60, 3]);
  assert.is(device.memory.liveBytes, before);
});

test('a session left early goes on from what it has', async () => {
  using session = new DecodingSession(model);
  const all = await generate(model, prompt, { maxTokens: 9 });
  const found: number[] = [];
  for await (const id of session.continue(prompt, { maxTokens: 9 })) {
    found.push(id);
    if (found.length === 4) break;
  }
  assert.equal(found, all.slice(0, 4));
  const rest = session.continue([...prompt, ...found], { maxTokens: 5 });
  for await (const id of rest) found.push(id);
  assert.equal(found, all);
  assert.is(rest.reused, prompt.length + 3);
});

test('prompts continued together are continued as if alone, beside others of other lengths', async () => {
  const prompts = [prompt, [9], [4, 4, 4, 80, 91, 7, 33], prompt, Array.from({ length: 70 }, (_, i) => i)];
  const alone = await Promise.all(prompts.map(ids => generate(model, ids, { maxTokens: 9 })));
  const before = device.memory.liveBytes;
  const end = alone[2]![4]!;
  const requests = prompts.map((ids, at) => ({ prompt: ids, maxTokens: 5 + at, seed: at }));
  let ended = 0;
  const found = await generateTogether(model, requests, { eosIds: [end], onText: () => ended++ });
  const expected = alone.map((ids, at) => {
    const all = ids.slice(0, 5 + at);
    return all.includes(end) ? all.slice(0, all.indexOf(end)) : all;
  });
  assert.equal(found, expected);
  assert.is(ended, 5);
  assert.is(device.memory.liveBytes, before);
});

test('together: a step costs one submit and one download; seeds decide, not neighbours', async () => {
  const { recorder } = device;
  const submits: number[] = [];
  const requests = [7, 8, 7].map(seed => ({ prompt, maxTokens: 20, seed }));
  const options = { temperature: 1, topP: 0.95 };
  const found = await generateTogether(model, requests, {
    ...options,
    onToken: () => submits.push(recorder.submits),
  });
  // The first two steps compute the prompts.
  const perStep = submits.filter((_, at) => at % 3 === 0);
  for (let t = 3; t < perStep.length; t++) assert.is(perStep[t]! - perStep[t - 1]!, 1, `token ${t}`);
  assert.equal(found[0], found[2]);
  assert.not.equal(found[0], found[1]);
  assert.equal(await generateTogether(model, requests, options), found);
});

test('an aborted signal ends the text', async () => {
  const controller = new AbortController();
  let count = 0;
  const work = generate(model, prompt, {
    maxTokens: 50,
    signal: controller.signal,
    onToken: () => ++count === 2 && controller.abort(new Error('stop')),
  });
  const thrown = await work.catch((error: Error) => error);
  assert.is((thrown as Error).message, 'stop');
  assert.is(count, 2);
});

test('a model whose numbers overflow gives NOT_FINITE, not a text', async () => {
  using broken = temporaryFolder();
  await writeTinyModel(broken.path, {
    values: (name, values) => name.includes('down_proj') && values.fill(3e38),
  });
  using loaded = await Model.load(device, broken.path);
  await rejectsWith(() => generate(loaded, prompt, { maxTokens: 3 }), 'NOT_FINITE');
});

test.run();
