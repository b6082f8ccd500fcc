/** Texts that are written at the same time: the session, its places and stop strings. Costs 6 s. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, seededRandom } from '../../engine/index.js';
import { tokenBytes } from '../../model/architecture/cacheBytes.js';
import { DecodingSession } from '../../model/generation/decodingSession.js';
import { generate } from '../../model/generation/generate.js';
import { type PlaceStore, PlaceTable } from '../../model/generation/placeTable.js';
import { StopStrings } from '../../model/generation/stopStrings.js';
import { KvCache } from '../../model/transformer/kvCache.js';
import { logits } from '../../model/transformer/logits.js';
import { Model } from '../../model/transformer/model.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

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

const prompts = [
  [17, 200, 33, 4, 250],
  [9],
  Array.from({ length: 70 }, (_, i) => (5 * i) % 256),
  [4, 4, 4, 80, 91, 7, 33],
  Array.from({ length: 40 }, (_, i) => (11 * i) % 256),
  [17, 200, 33, 4, 250, 12],
];

async function read(tokens: AsyncIterable<number>, onToken?: (count: number) => unknown): Promise<number[]> {
  const all: number[] = [];
  for await (const token of tokens) {
    all.push(token);
    await onToken?.(all.length);
  }
  return all;
}

const alone = (prompt: readonly number[], maxTokens: number) => generate(model, prompt, { maxTokens });

test('texts that join and leave at any time are those that each would be alone', async () => {
  const lengths = [14, 3, 8, 15, 6, 9];
  const expected = await Promise.all(prompts.map((prompt, at) => alone(prompt, lengths[at]!)));
  const before = device.memory.liveBytes;
  {
    using session = new DecodingSession(model);
    // Each begins once the one before it has a few tokens.
    const begin = async (at: number): Promise<number[][]> => {
      let others: Promise<number[][]> | undefined;
      const text = session.continue(prompts[at]!, { maxTokens: lengths[at]! });
      const own = await read(text, count => {
        if (count === 2 && at + 1 < prompts.length) others = begin(at + 1);
      });
      return [own, ...((await others) ?? [])];
    };
    assert.equal(await begin(0), expected);
    assert.equal(session.texts, { open: 0, waiting: 0 });
  }
  assert.is(device.memory.liveBytes, before);
});

test('more texts than places, and than tokens of the cache: they wait, give way and come back, and stay the same', async () => {
  const expected = await Promise.all(prompts.map(prompt => alone(prompt, 24)));
  const perToken = tokenBytes(model.arch);
  const before = device.memory.liveBytes;
  for (const [texts, rows] of [
    [2, 1000],
    [6, 110],
    [3, 95],
  ] as const) {
    using session = new DecodingSession(model, { texts, cacheBytes: rows * perToken });
    let most = 0;
    const all = prompts.map(prompt =>
      read(session.continue(prompt, { maxTokens: 24 }), () => {
        most = Math.max(most, session.texts.open);
      }),
    );
    assert.equal(await Promise.all(all), expected, `${texts} places, ${rows} tokens`);
    assert.ok(most <= texts && most > 1, `${most} of ${texts} at a time`);
  }
  assert.is(device.memory.liveBytes, before);
});

test('the cache stays within its bytes; a prompt that can never fit is an error of its own', async () => {
  const perToken = tokenBytes(model.arch);
  using session = new DecodingSession(model, { cacheBytes: 50 * perToken });
  const message = await rejectsWith(
    async () => session.continue(prompts[2]!, { maxTokens: 1 }),
    'INVALID_ARGUMENT',
  );
  assert.match(message, "the KV cache needs room for the prompt's 70 tokens and a new one, but may hold 50");
  const before = device.memory.liveBytes;
  const rest = session.continue(prompts[4]!, { maxTokens: 30 });
  assert.is((await read(rest)).length, 10, 'it ends where the cache is full');
  assert.is(rest.ended, 'length');
  const held = device.memory.liveBytes - before;
  assert.ok(held >= 50 * perToken && held < 1.1 * 50 * perToken + 65536, `${held} bytes`);
});

test('a slow reader holds nobody up, and one that leaves frees its place', async () => {
  using session = new DecodingSession(model, { texts: 2 });
  const slow = session.continue(prompts[0]!, { maxTokens: 20 });
  const first = await slow.next();
  const fast = await read(session.continue(prompts[3]!, { maxTokens: 20 }));
  assert.equal(fast, await alone(prompts[3]!, 20));
  const third = read(session.continue(prompts[1]!, { maxTokens: 5 }));
  const fourth = read(session.continue(prompts[4]!, { maxTokens: 5 }));
  assert.equal(await third, await alone(prompts[1]!, 5));
  await slow.return();
  assert.equal(await fourth, await alone(prompts[4]!, 5));
  assert.is(first.value, (await alone(prompts[0]!, 1))[0]);
  assert.equal(session.texts, { open: 0, waiting: 0 });
});

test('signals: each ends its own text, waiting or going', async () => {
  using session = new DecodingSession(model, { texts: 2 });
  const stops = prompts.map(() => new AbortController());
  const results = prompts.map((prompt, at) =>
    read(session.continue(prompt, { maxTokens: 12, signal: stops[at]!.signal }), count => {
      if (at === 0 && count === 3) {
        stops[0]!.abort(new Error('enough'));
        stops[3]!.abort(new Error('not begun'));
      }
    }).catch((error: Error) => error.message),
  );
  const expected: unknown[] = await Promise.all(prompts.map(prompt => alone(prompt, 12)));
  expected[0] = 'enough';
  expected[3] = 'not begun';
  assert.equal(await Promise.all(results), expected);
});

test('what goes wrong in one text is its own matter', async () => {
  using session = new DecodingSession(model);
  const fails = () => {
    throw new Error('mine');
  };
  const results = await Promise.allSettled([
    read(session.continue(prompts[0]!, { maxTokens: 6, sample: fails })),
    read(session.continue(prompts[1]!, { maxTokens: 6, ended: fails })),
    read(session.continue(prompts[3]!, { maxTokens: 6, sample: () => 1e6 })),
    read(session.continue(prompts[4]!, { maxTokens: 6 })),
  ]);
  assert.equal(
    results.map(({ status }) => status),
    ['rejected', 'rejected', 'rejected', 'fulfilled'],
  );
  assert.match(String((results[2] as PromiseRejectedResult).reason), '`sample` returns 1000000');
  assert.equal((results[3] as PromiseFulfilledResult<number[]>).value, await alone(prompts[4]!, 6));
});

test('each text is sampled in its own way; a hook sees the logits of the whole text', async () => {
  using session = new DecodingSession(model);
  const drawn = { maxTokens: 10, temperature: 1, topK: 50, seed: 3 };
  const punished = { maxTokens: 10, repeatPenalty: 1.5 };
  const argmax = (values: Float32Array) => values.indexOf(values.reduce((a, b) => Math.max(a, b)));
  const seen: Float32Array[] = [];
  const sample = (values: Float32Array) => {
    seen.push(values.slice());
    return argmax(values);
  };
  const [a, b, c, d] = await Promise.all([
    read(session.continue(prompts[0]!, drawn)),
    read(session.continue(prompts[1]!, punished)),
    read(session.continue(prompts[3]!, { maxTokens: 10, sample })),
    read(session.continue(prompts[4]!, { maxTokens: 10 })),
  ]);
  assert.equal(a, await generate(model, prompts[0]!, drawn));
  assert.equal(b, await generate(model, prompts[1]!, punished));
  assert.equal(c, await alone(prompts[3]!, 10));
  assert.equal(d, await alone(prompts[4]!, 10));
  const { logits: whole } = await logits(model, [...prompts[3]!, ...c.slice(0, 6)]);
  const last = whole.subarray(-model.arch.vocab);
  for (const [at, value] of last.entries()) assert.ok(Math.abs(seen[6]![at]! - value) < 1e-3, `token ${at}`);
});

test('an earlier text gives its beginning to one that begins alike, going or gone', async () => {
  using session = new DecodingSession(model);
  const shared = prompts[2]!;
  const long = session.continue([...shared, 1], { maxTokens: 8 });
  await long.next();
  const beside = session.continue([...shared, 2, 3], { maxTokens: 8 });
  assert.equal(await read(beside), await alone([...shared, 2, 3], 8));
  assert.is(beside.reused, 70);
  await read(long);
  const after = session.continue([...shared, 2, 3, 9], { maxTokens: 8 });
  assert.equal(await read(after), await alone([...shared, 2, 3, 9], 8));
  assert.is(after.reused, 72);
});

test('a cache moves and grows its places without changing what they hold', async () => {
  using cache = new KvCache(device, model.arch, 0, 3);
  const { rows } = cache;
  assert.is(rows, 0);
  cache.resize(1, 10);
  cache.resize(0, 5);
  cache.resize(2, 4);
  assert.equal(
    [0, 1, 2].map(place => cache.roomOf(place)),
    [5, 10, 4],
  );
  const ranges = () =>
    [0, 1, 2]
      .filter(place => cache.roomOf(place) > 0)
      .map(place => [cache.places([place])[0]!.start, cache.roomOf(place)] as const);
  const apart = () => {
    let end = 0;
    for (const [start, room] of ranges().sort((a, b) => a[0] - b[0])) {
      assert.ok(start >= end, JSON.stringify(ranges()));
      end = start + room;
    }
    assert.ok(end <= cache.rows);
  };
  apart();
  cache.resize(1, 0);
  cache.resize(0, 12);
  apart();
  assert.is(cache.rows, 19, 'a gap was wide enough');
  cache.resize(1, 9);
  apart();
  assert.is(cache.rows, 25);
});

/** A store that only keeps books. */
class Books implements PlaceStore {
  readonly rooms: number[];
  readonly cached: number[][];
  constructor(places: number) {
    this.rooms = new Array<number>(places).fill(0);
    this.cached = Array.from({ length: places }, () => []);
  }
  lengthOf = (place: number) => this.cached[place]!.length;
  roomOf = (place: number) => this.rooms[place]!;
  reserve = () => {};
  resize = (place: number, room: number) => {
    this.rooms[place] = room;
    this.cached[place] = this.cached[place]!.slice(0, room);
  };
  common = (place: number, tokens: readonly number[]) => {
    let count = 0;
    while (count < tokens.length - 1 && this.cached[place]![count] === tokens[count]) count++;
    return count;
  };
  begin = (place: number, from: number, count: number) => {
    assert.ok(count <= this.rooms[place]!);
    this.cached[place] = this.cached[from]!.slice(0, count);
  };
}

test('places: never more tokens than allowed, never two texts in one, what is reused is what was there', () => {
  const random = seededRandom(5);
  const below = (count: number) => Math.floor(random() * count);
  const books = new Books(4);
  const table = new PlaceTable(books, 4, 200);
  const open = new Map<number, number[]>();
  let [refused, reused] = [0, 0];
  for (let step = 0; step < 5000; step++) {
    const at = [...open.keys()][below(open.size)];
    if (at !== undefined && below(3) === 0) {
      table.leave(at);
      open.delete(at);
    } else if (at !== undefined && below(2) === 0) {
      const tokens = open.get(at)!;
      tokens.push(below(2));
      if (table.grow(at, tokens.length)) books.cached[at] = [...tokens];
      else tokens.pop();
    } else {
      const tokens = Array.from({ length: 1 + below(60) }, (_, i) => (i < 30 ? 7 : below(2)));
      const entered = table.enter(tokens, tokens.length);
      if (!entered) refused++;
      else {
        assert.not(open.has(entered.place));
        assert.equal(books.cached[entered.place], tokens.slice(0, entered.reused));
        reused += entered.reused;
        books.cached[entered.place] = [...tokens];
        open.set(entered.place, tokens);
      }
    }
    assert.ok(books.rooms.reduce((a, b) => a + b) <= 200);
    for (const [place, tokens] of open) assert.equal(books.cached[place], tokens);
  }
  assert.ok(refused > 100 && reused > 1000, `${refused} refused, ${reused} tokens reused`);
});

/** Character by character. */
function cutByHand(text: string, stops: readonly string[]): string {
  for (let end = 1; end <= text.length; end++) {
    const found = stops.filter(stop => stop !== '' && text.slice(0, end).endsWith(stop));
    const longest = Math.max(0, ...found.map(({ length }) => length));
    if (longest > 0) return text.slice(0, end - longest);
  }
  return text;
}

test('stop strings: the same cut however the text comes in pieces, and nothing is held back in vain', () => {
  const random = seededRandom(2);
  const some = (most: number) =>
    Array.from({ length: Math.floor(random() * most) }, () => 'abn'[Math.floor(random() * 3)]).join('');
  for (let round = 0; round < 3000; round++) {
    const stops = [some(5), some(4)];
    const text = some(30);
    const scanner = new StopStrings(stops);
    let written = '';
    for (let at = 0; at < text.length; ) {
      const next = at + 1 + Math.floor(random() * 6);
      written += scanner.push(text.slice(at, next));
      at = next;
      const rest = text.slice(written.length, at);
      const begins = stops.some(stop => stop.startsWith(rest));
      if (!scanner.found) assert.ok(begins || rest === '', JSON.stringify({ text, stops, rest }));
    }
    written += scanner.end();
    assert.is(written, cutByHand(text, stops), JSON.stringify({ text, stops }));
  }
});

test.run();
