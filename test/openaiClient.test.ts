/** OpenAI's own client talks to examples/server.ts. Costs 4 s; needs RM_OPENAI, the folder of the npm package `openai`. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { saySkipped } from './support.js';

const { RM_OPENAI } = process.env;
const example = fileURLToPath(new URL('../examples/server.js', import.meta.url));

// biome-ignore lint/suspicious/noExplicitAny: the package is not there when this is compiled.
type Client = any;

async function withClient(work: (client: Client, errors: Client) => Promise<void>) {
  const child = spawn(process.execPath, [example], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [address] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    const module = await import(pathToFileURL(join(RM_OPENAI!, 'index.mjs')).href);
    await work(new module.default({ baseURL: `${address}/v1`, apiKey: 'none', maxRetries: 0 }), module);
    child.kill('SIGINT');
    const [code] = await once(child, 'exit');
    assert.is(code, 0, 'the example ends by itself');
  } finally {
    child.kill('SIGKILL');
  }
}

if (RM_OPENAI === undefined) {
  saySkipped("OpenAI's client: set RM_OPENAI to the folder of the npm package openai");
} else {
  test("OpenAI's client: models, completions, chats, streams, counts, errors, leaving", () =>
    withClient(async (client, { BadRequestError, NotFoundError, APIUserAbortError }) => {
      const { data } = await client.models.list();
      assert.equal(
        data.map(({ id }: Client) => id),
        ['model'],
      );
      const shared = { model: 'model', max_tokens: 12, temperature: 0 };
      const prompt = 'It is a truth';
      const { choices, usage } = await client.completions.create({ ...shared, prompt });
      assert.is(usage.completion_tokens, 12);
      let text = '';
      for await (const chunk of await client.completions.create({ ...shared, prompt, stream: true })) {
        text += chunk.choices[0].text;
      }
      assert.is(text, choices[0].text);

      const messages = [{ role: 'user', content: prompt }];
      const chat = await client.chat.completions.create({ ...shared, messages });
      assert.is(chat.choices[0].message.content, text, 'without a template the line goes on');
      const stream = client.chat.completions.stream({
        ...{ ...shared, messages, stream_options: { include_usage: true } },
      });
      const final = await stream.finalChatCompletion();
      assert.is(final.choices[0].message.content, text);
      assert.is(final.choices[0].finish_reason, 'length');
      assert.is(final.usage.completion_tokens, 12);

      const many = await Promise.all(
        [1, 2, 3, 4].map(() => client.chat.completions.create({ ...shared, messages })),
      );
      for (const one of many) assert.is(one.choices[0].message.content, text);

      const failing = async (body: object) =>
        client.completions.create({ ...shared, prompt, ...body }).catch((error: unknown) => error);
      const bad = await failing({ temperature: -1 });
      assert.instance(bad, BadRequestError);
      assert.is(bad.param, 'temperature');
      assert.instance(await failing({ model: 'other' }), NotFoundError);

      const long = await client.completions.create({ ...shared, prompt, max_tokens: 400, stream: true });
      for await (const _ of long) break;
      const leaving = new AbortController();
      const left = client.completions.create({ ...shared, prompt }, { signal: leaving.signal });
      leaving.abort();
      assert.instance(await left.catch((error: unknown) => error), APIUserAbortError);
    }));
}

test.run();
