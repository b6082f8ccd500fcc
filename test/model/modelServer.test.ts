/** The server of OpenAI's protocol, in this process, on the demo model. Costs 5 s. */
import { request as httpRequest } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { generate, Model, ModelServer, openTextReader, type TextReader } from '../../model/public.js';
import { shippedPath } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';

let device: Device;
let model: Model;
let reader: TextReader;
let server: ModelServer;
let address: string;

test.before(async () => {
  const folder = shippedPath('demo-model');
  device = await Device.open();
  model = await Model.load(device, folder);
  reader = await openTextReader(folder);
  server = new ModelServer([{ name: 'demo', model, reader }], {
    ...{ texts: 6, bodyBytes: 20_000, hosts: ['gpu.example'], page: '<title>page</title>' },
  });
  address = await server.listen(0);
});

test.after(async () => {
  await server.close();
  model.dispose();
  await device.close();
});

// biome-ignore lint/suspicious/noExplicitAny: what a server answers.
type Json = any;

const post = (path: string, body: unknown, init: RequestInit = {}) =>
  fetch(address + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: typeof body === 'string' ? body : JSON.stringify(body),
    ...init,
  });
const complete = async (body: object): Promise<Json> =>
  (await post('/v1/completions', { temperature: 0, ...body })).json();
const chat = async (body: object): Promise<Json> =>
  (await post('/v1/chat/completions', { temperature: 0, ...body })).json();

/** The objects of a stream, which must end with [DONE]. */
async function streamed(response: Response): Promise<Json[]> {
  assert.match(response.headers.get('content-type')!, 'text/event-stream');
  const lines = (await response.text()).split('\n\n').filter(Boolean);
  assert.is(lines.pop(), 'data: [DONE]');
  return lines.map(line => JSON.parse(line.replace(/^data: /, '')));
}

const words = 'It is a truth universally acknowledged';
const expected = async (prompt: string, maxTokens: number): Promise<string> => {
  const ids = await reader.tokenizer.encode(prompt);
  const all = await generate(model, ids, { maxTokens, eosIds: reader.tokenizer.eosIds });
  const stream = reader.tokenizer.createTextStream({ skipSpecialTokens: true });
  // What a text goes on with depends on the tokens before it only in its first space.
  let text = '';
  for (const id of all) text += await stream.push(id);
  return text + (await stream.end());
};

test('a completion: text, counts and why it ended', async () => {
  const answer = await complete({ prompt: words, max_tokens: 12 });
  const prompt = (await reader.tokenizer.encode(words)).length;
  assert.is(answer.object, 'text_completion');
  assert.is(answer.model, 'demo');
  assert.is(answer.choices[0].text, await expected(words, 12));
  assert.is(answer.choices[0].finish_reason, 'length');
  assert.is(answer.usage.prompt_tokens, prompt);
  assert.is(answer.usage.completion_tokens, 12);
  assert.is(answer.usage.total_tokens, prompt + 12);
  const ids = await reader.tokenizer.encode(`${words}, that ${words}`);
  const [first, again] = [await complete({ prompt: ids }), await complete({ prompt: ids })];
  assert.is(again.choices[0].text, first.choices[0].text);
  assert.is(again.usage.prompt_tokens_details.cached_tokens, ids.length - 1);
  assert.is((await complete({ prompt: words })).usage.completion_tokens, 16, 'the default of the protocol');
});

test('several texts of one request, and several requests at once: each as it would be alone', async () => {
  const prompts = [words, 'She was then', 'The letter', 'Mr. Bennet made'];
  const alone: string[] = [];
  for (const prompt of prompts) alone.push(await expected(prompt, 20));
  const together = await complete({ prompt: prompts, max_tokens: 20 });
  assert.equal(
    together.choices.map(({ text, index }: Json) => [index, text]),
    alone.map((text, at) => [at, text]),
  );
  const apart = await Promise.all(prompts.map(prompt => complete({ prompt, max_tokens: 20 })));
  assert.equal(
    apart.map(answer => answer.choices[0].text),
    alone,
  );
});

test('drawn texts: a seed repeats them, each of n is another, no seed is a new one', async () => {
  const drawn = { prompt: words, max_tokens: 12, temperature: 1, n: 2, seed: 7 };
  const texts = async (body: object) => (await complete(body)).choices.map(({ text }: Json) => text);
  const first = await texts(drawn);
  assert.equal(await texts(drawn), first);
  assert.not.equal(first[0], first[1]);
  assert.not.equal(await texts({ ...drawn, seed: null }), await texts({ ...drawn, seed: undefined }));
});

test('a stop string ends a text before it, also across tokens, and nothing more is computed', async () => {
  const whole = await expected(words, 40);
  const stop = whole.slice(17, 22);
  const answer = await complete({ prompt: words, max_tokens: 40, stop: ['never this', stop] });
  assert.is(answer.choices[0].text, whole.slice(0, whole.indexOf(stop)));
  assert.is(answer.choices[0].finish_reason, 'stop');
  assert.ok(answer.usage.completion_tokens < 20);
});

test('streams: the pieces are the text, the last one says why, then the counts', async () => {
  const body = {
    prompt: words,
    max_tokens: 9,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
  };
  const chunks = await streamed(await post('/v1/completions', body));
  const usage = chunks.pop();
  assert.equal(usage.choices, []);
  assert.is(usage.usage.completion_tokens, 9);
  assert.is(chunks.map(({ choices }) => choices[0].text).join(''), await expected(words, 9));
  assert.is(chunks.at(-1).choices[0].finish_reason, 'length');
  assert.is(new Set(chunks.map(({ id }) => id)).size, 1);
});

test('chats: streamed or not the same; without a template the lines go on', async () => {
  const messages = [
    { role: 'user', content: 'It is a truth' },
    { role: 'assistant', content: ' universally' },
    { role: 'user', content: [{ type: 'text', text: 'She was' }] },
  ];
  const whole = await chat({ messages, max_completion_tokens: 10, unknown_field: { a: 1 } });
  assert.is(whole.object, 'chat.completion');
  assert.is(whole.choices[0].message.role, 'assistant');
  const text = await expected('It is a truth universally\nShe was', 10);
  assert.is(whole.choices[0].message.content, text);
  const body = { messages, max_tokens: 10, temperature: 0, stream: true };
  const chunks = await streamed(await post('/v1/chat/completions', body));
  assert.equal(chunks[0].choices[0].delta, { role: 'assistant', content: '' });
  assert.is(chunks.map(({ choices }) => choices[0].delta.content ?? '').join(''), text);
  assert.is(chunks.at(-1).choices[0].finish_reason, 'length');
});

test('models are listed', async () => {
  const list: Json = await (await fetch(`${address}/v1/models`)).json();
  assert.equal(
    list.data.map(({ id, object }: Json) => [id, object]),
    [['demo', 'model']],
  );
  const one: Json = await (await fetch(`${address}/v1/models/demo`)).json();
  assert.is(one.max_model_len, 512);
  assert.is((await fetch(`${address}/v1/models/other`)).status, 404);
  assert.is((await fetch(`${address}/v1/models/%E0%A4%A`)).status, 400);
});

test('what is wrong with a request is said in the form of the protocol, and the server goes on', async () => {
  const text = '/v1/completions';
  const talk = '/v1/chat/completions';
  const message = { role: 'user', content: 'Hi' };
  const cases: [path: string, body: unknown, status: number, says: RegExp, param?: string][] = [
    [text, '{', 400, /not JSON/],
    [text, '[]', 400, /not a JSON object/],
    [text, 'null', 400, /not a JSON object/],
    [text, {}, 400, /prompt is not a text/, 'prompt'],
    [text, { prompt: 3 }, 400, /prompt is not a text/, 'prompt'],
    [text, { prompt: [] }, 400, /prompt/, 'prompt'],
    [text, { prompt: [1, 'x'] }, 400, /prompt/, 'prompt'],
    [text, { prompt: [-1] }, 400, /prompt/, 'prompt'],
    [text, { prompt: [99_999] }, 400, /token id 99999/],
    [text, { prompt: 'x', max_tokens: 0 }, 400, /max_tokens is 0/, 'max_tokens'],
    [text, { prompt: 'x', max_tokens: '9' }, 400, /max_tokens/, 'max_tokens'],
    [text, { prompt: 'x', temperature: -1 }, 400, /temperature/, 'temperature'],
    [text, { prompt: 'x', temperature: 'hot' }, 400, /temperature/, 'temperature'],
    [text, { prompt: 'x', top_p: 2 }, 400, /top_p/, 'top_p'],
    [text, { prompt: 'x', top_p: 0 }, 400, /top_p/, 'top_p'],
    [text, { prompt: 'x', n: 1000 }, 400, /\bn is 1000/, 'n'],
    [text, { prompt: 'x', seed: 1.5 }, 400, /seed/, 'seed'],
    [text, { prompt: 'x', stop: 7 }, 400, /stop/, 'stop'],
    [text, { prompt: 'x', stream: 'yes' }, 400, /stream/, 'stream'],
    [text, { prompt: 'x', echo: true }, 400, /`echo` is not supported/, 'echo'],
    [text, { prompt: 'x', model: 'gpt-4' }, 404, /no model "gpt-4" here, only "demo"/, 'model'],
    [text, { prompt: 'word '.repeat(700) }, 400, /context is 512/],
    [text, { prompt: 'x'.repeat(30_000) }, 413, /more than 20000 bytes/],
    [talk, {}, 400, /messages is missing/, 'messages'],
    [talk, { messages: [] }, 400, /messages/, 'messages'],
    [talk, { messages: [{ content: 'Hi' }] }, 400, /messages\[0\].role/, 'messages'],
    [talk, { messages: [{ role: 'user', content: 5 }] }, 400, /content/, 'messages'],
    [talk, { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }, 400, /image_url/, 'messages'],
    [talk, { messages: [message], tools: [{ type: 'function' }] }, 400, /`tools`/, 'tools'],
    [talk, { messages: [message], response_format: { type: 'json_object' } }, 400, /`response_format`/],
    ['/v1/embeddings', {}, 404, /nothing at/],
    ['/v1/models', {}, 405, /takes GET/],
    ['/constructor', {}, 404, /nothing at/],
  ];
  for (const [path, body, status, says, param] of cases) {
    const response = await post(path, body);
    const what = `${path} ${JSON.stringify(body).slice(0, 80)}`;
    const { error }: Json = await response.json();
    assert.is(response.status, status, `${what}: ${error?.message}`);
    assert.match(error.message, says);
    assert.is(error.type, 'invalid_request_error', what);
    if (param) assert.is(error.param, param, what);
  }
  const plain = await post(text, { prompt: 'x' }, { headers: { 'content-type': 'text/plain' } });
  assert.is(plain.status, 415, 'pages of other sites can send that without asking');
  const harmless = {
    echo: false,
    logprobs: null,
    logit_bias: {},
    tools: [],
    response_format: { type: 'text' },
  };
  assert.is((await complete({ prompt: 'x', max_tokens: 1, ...harmless })).usage.completion_tokens, 1);
});

test('a body without a length is not read beyond the limit', async () => {
  const status = await new Promise<number>((resolve, reject) => {
    const request = httpRequest(`${address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'transfer-encoding': 'chunked' },
    });
    request.on('response', response => resolve(response.statusCode!));
    request.on('error', reject);
    for (let part = 0; part < 30; part++) request.write(' '.repeat(1000));
    request.end();
  });
  assert.is(status, 413);
});

test('names and origins that are not ours are refused: no page of another site gets through', async () => {
  const port = new URL(address).port;
  const asks = (headers: Record<string, string>) =>
    new Promise<number>((resolve, reject) => {
      httpRequest(`${address}/v1/models`, { headers }, response => {
        response.resume();
        resolve(response.statusCode!);
      })
        .on('error', reject)
        .end();
    });
  for (const host of [
    'localhost',
    `localhost:${port}`,
    `127.0.0.1:${port}`,
    `[::1]:${port}`,
    'gpu.example',
    '10.0.0.7',
  ]) {
    assert.is(await asks({ host }), 200, host);
  }
  for (const host of ['evil.example', `evil.example:${port}`, 'localhost.evil.example']) {
    assert.is(await asks({ host }), 403, host);
  }
  assert.is(await asks({ host: 'localhost', origin: 'http://localhost' }), 200);
  for (const origin of ['http://evil.example', 'null', 'http://localhost:1']) {
    assert.is(await asks({ host: 'localhost', origin }), 403, origin);
  }
});

test('what goes wrong here is told to the owner; a stream that has begun ends with the error', async () => {
  const told: unknown[] = [];
  const { tokenizer } = reader;
  let pieces = 0;
  const createTextStream = () => ({
    push: async () => {
      if (++pieces > 3) throw new Error('secret');
      return 'x';
    },
    end: async () => '',
  });
  const broken = {
    encode: tokenizer.encode.bind(tokenizer),
    decode: tokenizer.decode,
    eosIds: [],
    createTextStream,
  };
  const served = {
    name: 'a',
    model,
    reader: { ...reader, tokenizer: broken as unknown as typeof tokenizer },
  };
  const other = new ModelServer([served], { onError: error => told.push(error) });
  const url = await other.listen(0);
  const ask = (stream: boolean) =>
    fetch(`${url}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt: words, max_tokens: 8, stream }),
    });
  const lines = (await (await ask(true)).text()).split('\n\n').filter(Boolean);
  assert.is(lines.length, 4);
  const { error }: Json = JSON.parse(lines[3]!.slice('data: '.length));
  assert.is(error.message, 'the server failed');
  assert.is(error.type, 'server_error');
  assert.is((await ask(false)).status, 500);
  assert.equal(told.map(String), ['Error: secret', 'Error: secret']);
  await other.close();
});

test('who leaves is no longer written for', async () => {
  const leaving = new AbortController();
  const long = { prompt: words, max_tokens: 450, temperature: 0, stream: true, ignore_eos: true };
  const response = await post('/v1/completions', long, { signal: leaving.signal });
  await response.body!.getReader().read();
  leaving.abort();
  await complete({ prompt: 'She', max_tokens: 4 });
  const before = device.recorder.submits;
  await new Promise(resolve => setTimeout(resolve, 100));
  assert.ok(device.recorder.submits - before <= 1, 'the device rests');
});

test('a server that closes ends what it is writing and gives its memory back', async () => {
  const before = device.memory.liveBytes;
  const other = new ModelServer([{ name: 'a', model, reader }]);
  const url = await other.listen(0);
  const response = await fetch(`${url}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ prompt: words, max_tokens: 450, ignore_eos: true, stream: true }),
  });
  await response.body!.getReader().read();
  await other.close();
  assert.ok(device.memory.liveBytes - before <= 65_536, `${device.memory.liveBytes - before} bytes stay`);
  assert.match(
    await rejectsWith(() => server.listen(Number(new URL(address).port)), 'INVALID_ARGUMENT'),
    'cannot listen',
  );
  await rejectsWith(async () => new ModelServer([]), 'INVALID_ARGUMENT');
  const twice = { name: 'a', model, reader };
  await rejectsWith(async () => new ModelServer([twice, twice]), 'INVALID_ARGUMENT');
});

test.run();
