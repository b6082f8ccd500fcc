import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { evaluate } from '../../model/evaluation/evaluate.js';
import { shippedPath } from '../../model/files/shippedPath.js';
import { loadChatTemplate } from '../../model/text/chat.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { tokenSequences } from '../../model/text/tokenSequences.js';
import { Model } from '../../model/transformer/model.js';
import {
  type GenerationOptions,
  generateCalibration,
} from '../../replaceme/calibration/generateCalibration.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const place = temporaryFolder();
let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
  place[Symbol.dispose]();
});

/** The tiny model, one token a byte, its special token <end> = 256; with or without a chat template. */
async function tiny(name: string, template?: string, change: Parameters<typeof writeTinyModel>[1] = {}) {
  const folder = join(place.path, name);
  mkdirSync(folder);
  await writeTinyModel(folder, change);
  if (template !== undefined) writeFileSync(join(folder, 'chat_template.jinja'), template);
  const tokenizer = await loadTokenizer(folder);
  const chat = await loadChatTemplate(folder, tokenizer);
  const model = await Model.load(device, folder);
  const write = (options: Partial<GenerationOptions> = {}) =>
    generateCalibration(model, tokenizer, chat, { tokens: 160, sequenceLength: 64, ...options });
  return { tokenizer, chat, model, write, [Symbol.dispose]: () => model.dispose() };
}

const TEMPLATE =
  "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}<end>{% endfor %}" +
  '{% if add_generation_prompt %}[assistant] {% endif %}';

test('a model with a chat template writes the user and the assistant', async () => {
  using place = await tiny('chat', TEMPLATE);
  const calibration = await place.write();
  assert.is(calibration.tokens, 160);
  assert.is(calibration.files.length, 1);
  assert.match(calibration.files[0]!.path, 'generated');
  assert.match(calibration.files[0]!.sha256, /^[0-9a-f]{64}$/);
  for (const half of [0, 1]) {
    const ids = calibration.sequences
      .filter(sequence => sequence.half === half)
      .flatMap(sequence => sequence.ids);
    assert.is(ids.length, 80);
  }
  assert.ok(calibration.sequences.every(({ ids, source }) => source === 0 && ids.length <= 64));
  // What a tiny model writes is no UTF-8: every stray byte becomes a character of three, so texts grow and are divided.
  const [first] = calibration.sequences;
  const said = await place.tokenizer.decode(first!.ids);
  assert.match(said, /^\[user\] [\s\S]+<end>\[assistant\] [\s\S]+$/);
  assert.ok(
    Array.from(said.split('<end>')[0]!).length <= '[user] '.length + 16,
    'a quarter at most is the user',
  );
});

test('the same seed gives the same text, another seed another', async () => {
  using place = await tiny('seeds', TEMPLATE);
  const hash = async (options: Partial<GenerationOptions>) => (await place.write(options)).files[0]!.sha256;
  const [first, again, other] = [await hash({ seed: 7 }), await hash({ seed: 7 }), await hash({ seed: 8 })];
  assert.is(first, again);
  assert.is.not(first, other);
});

test('prompts are what the user says, in turn', async () => {
  using place = await tiny('prompts', TEMPLATE);
  const { sequences } = await place.write({ prompts: ['Why?', 'How so?'], tokens: 200 });
  const said = (await Promise.all(sequences.map(({ ids }) => place.tokenizer.decode(ids)))).join('');
  const questions = [...new Set(said.match(/\[user\] [^<]*(?=<end>)/g))].sort();
  assert.equal(questions, ['[user] How so?', '[user] Why?']);
});

test('without a template texts go on from BOS, from prompts or from shipped texts', async () => {
  using place = await tiny('plain');
  const shipped = await place.write({ tokens: 128 });
  const first = await place.tokenizer.decode(shipped.sequences[0]!.ids);
  assert.is(first.slice(0, 8), 'Harriet ');
  const prompted = await place.write({ tokens: 64, prompts: ['Zebra '] });
  for (const { ids } of prompted.sequences) assert.match(await place.tokenizer.decode(ids), /^Zebra /);
  const events: number[] = [];
  using other = await tiny('bos', undefined, { config: { bos_token_id: 257 } });
  assert.is(other.tokenizer.bosId, 257);
  const begun = await other.write({ tokens: 64, onProgress: ({ done }) => events.push(done) });
  assert.is(begun.tokens, 64);
  assert.ok(events.length >= 60);
});

test('what the demo model writes is likelier to it than random tokens and than read text', async () => {
  const folder = shippedPath('demo-model');
  const tokenizer = await loadTokenizer(folder);
  const chat = await loadChatTemplate(folder, tokenizer);
  using model = await Model.load(device, folder);
  const { sequences } = await generateCalibration(model, tokenizer, chat, {
    tokens: 200,
    sequenceLength: 100,
  });
  const written = await evaluate(
    model,
    sequences.map(({ ids }) => ids),
  );
  const read = await tokenSequences(
    [{ text: 'Emma was not required, by any subsequent discovery, to retract her ill opinion.'.repeat(9) }],
    tokenizer,
    chat,
    { sequenceLength: 100 },
  );
  const held = await evaluate(model, read);
  console.log(`nats a token: written ${written.nll.toFixed(2)}, read ${held.nll.toFixed(2)}, random 7.62`);
  assert.ok(written.nll < Math.log(model.arch.vocab) - 1);
});

test('a model that writes nothing, and a template that leaves the user out, are typed errors', async () => {
  // The final norm points every state at token 256, which ends the text.
  using mute = await tiny('mute', TEMPLATE, {
    values: (name, values) => {
      if (name === 'model.embed_tokens.weight') values.fill(1, 256 * 32, 257 * 32);
      if (name === 'model.norm.weight') values.fill(0);
    },
  });
  // All logits are 0 then, and everything is equally likely; only prompts without room for an answer are left.
  const long = 'x'.repeat(100);
  assert.match(await rejectsWith(() => mute.write({ prompts: [long] }), 'DATA_INVALID'), 'wrote nothing');
  using deaf = await tiny('deaf', 'always the same');
  await rejectsWith(() => deaf.write(), 'CONFIG_INVALID');
});

test('an aborted signal ends the writing', async () => {
  using place = await tiny('abort', TEMPLATE);
  const controller = new AbortController();
  const work = place.write({
    signal: controller.signal,
    onProgress: ({ done }) => done >= 20 && controller.abort(new Error('stop')),
  });
  assert.is(((await work.catch((error: Error) => error)) as Error).message, 'stop');
});

test.run();
