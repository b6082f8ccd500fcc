import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, type RmError, Tensor, tensorFrom } from '../../engine/index.js';
import { type Journal, liveSums, noJournal } from '../../engine/journal.js';
import { seededRandom } from '../../engine/random.js';
import { addInto } from '../../kernels/map/named.js';
import { SpillFile } from '../../model/index.js';
import { RunJournal } from '../../replaceme/resume/runJournal.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

class Killed extends Error {}

/** Dies in the visit `last`, before, within or behind its work. */
class Fate {
  visits = 0;

  constructor(
    private readonly last = Number.POSITIVE_INFINITY,
    private readonly place = 0,
  ) {}

  meet(place: 0 | 1 | 2): void {
    if (this.visits === this.last && place === this.place) throw new Killed();
  }
}

/**
 * A run with all that a prune has: steps that give tensors, walks whose sums are on the device and on the host, walks
 * within walks, a state that outlives steps.
 */
async function work(device: Device, journal: Journal, fate: Fate): Promise<unknown> {
  const history: number[] = [];
  using _history = await journal.track('history', {
    save: () => history,
    restore: (saved: number[]) => void history.splice(0, history.length, ...saved),
  });
  const sum = async (name: string, count: number): Promise<Tensor> =>
    await journal.step(name, async () => {
      const total = Tensor.create(device, [3], 'f32', name);
      device.recorder.clear(total);
      const numbers = { squares: 0, parts: new Float64Array(2100) };
      try {
        using _sums = await journal.track('sums', liveSums({ total }, numbers));
        await journal.forEach('batches', count, async index => {
          fate.visits++;
          fate.meet(0);
          using batch = tensorFrom(device, Float32Array.of(index, 0.1 * index, 1));
          addInto(device.recorder, batch, total);
          fate.meet(1);
          numbers.squares += index ** 2;
          numbers.parts[index]! += index / 3;
          history.push(index);
          fate.meet(2);
        });
        history.push(numbers.squares, numbers.parts.indexOf(0, 1), numbers.parts[2]!);
        return total;
      } catch (error) {
        total.dispose();
        throw error;
      }
    });
  using first = await sum('layer', 3);
  using second = await sum('layer', 4);
  const found: number[][] = [[...(await downloadF32(first))], [...(await downloadF32(second))]];
  await journal.forEach('candidates', 3, async () => {
    using inner = await sum('fit', 2);
    const values = await downloadF32(inner);
    history.push(...values);
    // A piece of work without a walk.
    const score = await journal.step('score', async () => new Map([['kl', -0 * values[0]!]]));
    history.push(1 / score.get('kl')!);
  });
  return { found, history };
}

test('a run that is killed at any visit goes on where it was, and ends with the same numbers', async () => {
  using place = temporaryFolder();
  await using device = await Device.open();
  const path = join(place.path, 'out.checkpoint');
  const whole = new Fate();
  const expected = await work(device, noJournal, whole);
  const live = device.memory.liveBytes;
  const random = seededRandom(7);
  for (let round = 0; round < 6; round++) {
    let visits = 0;
    let kills = 0;
    for (;;) {
      // The first runs die before anything can be kept.
      const journal = existsSync(path)
        ? await RunJournal.resume(device, path, { every: 0 })
        : RunJournal.begin(device, path, { every: 0 });
      const fate = kills < 8 ? new Fate(1 + Math.floor(3 * random()), Math.floor(3 * random())) : new Fate();
      try {
        assert.equal(await work(device, journal, fate), expected);
        await journal.finish();
        visits += fate.visits;
        break;
      } catch (error) {
        if (!(error instanceof Killed)) throw error;
        visits += fate.visits;
        kills++;
      }
    }
    assert.is.not(kills, 0);
    assert.ok(visits <= whole.visits + kills, `${visits} visits, ${whole.visits} and ${kills} kills`);
    assert.is(existsSync(path), false, 'nothing is left');
    assert.is(device.memory.liveBytes, live, 'nothing is left on the device');
  }
});

const options = { every: 0 };
const oneWalk = async (journal: Journal, count: number, upTo = count): Promise<number> => {
  const sums = { total: 0, values: new Float64Array(5000) };
  using _ = await journal.track('sums', liveSums({}, sums));
  await journal.forEach('numbers', count, async index => {
    if (index === upTo) throw new Killed();
    sums.total += index;
    sums.values[index] = index;
  });
  return sums.total;
};

/** A folder with a run that was killed at its third number. */
async function killedRun(device: Device, path: string, recipe = {}): Promise<void> {
  const journal = RunJournal.begin(device, path, options);
  journal.agree(recipe);
  await oneWalk(journal, 5, 2).catch(() => {});
}

test('saves are far apart where saving takes long; a short run leaves nothing', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  let now = 0;
  const saves: number[] = [];
  // Every save takes three seconds, and so does what a visit computes.
  const slow = {
    save: async () => {
      saves.push(now);
      now += 3000;
      await setImmediate();
      return null;
    },
    restore: () => {},
  };
  const run = async (visits: number) => {
    const journal = RunJournal.begin(undefined as never, path, { every: 10, now: () => now });
    using _ = await journal.track('slow', slow);
    await journal.forEach('visits', visits, async () => {
      now += 3000;
    });
    return journal;
  };
  await (await run(3)).finish();
  assert.equal([saves, existsSync(path)], [[], false]);
  await (await run(50)).finish();
  // The first after 10 s; from then on 60 s apart, a twentieth of which saving takes.
  assert.equal(
    saves.map(at => at - saves[0]!),
    [0, 63_000, 126_000],
  );
});

test('another recipe is refused with the difference; damage is refused; a new state takes the place of the old', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  const device = undefined as never;
  await killedRun(device, path, { method: 'refit', texts: ['a'] });
  const other = await RunJournal.resume(device, path, options);
  other.agree({ method: 'refit' });
  assert.match(
    await rejectsWith(() => other.agree({ texts: ['b'] }), 'INVALID_ARGUMENT'),
    /differs from this run in the texts: \["a"\] there, \["b"\] now/,
  );
  await other.leave();
  const [bytes, ...rest] = readdirSync(path).filter(name => /^[0-9a-f]{64}$/.test(name));
  assert.equal(rest, [], 'one state, one list of numbers');
  const file = join(path, bytes!);
  const right = readFileSync(file);
  const resumed = async () => await oneWalk(await RunJournal.resume(device, path, options), 5);
  const wrong = Uint8Array.from(right);
  wrong[100]! ^= 1;
  for (const damage of [wrong, right.subarray(1)]) {
    writeFileSync(file, damage);
    assert.match(await rejectsWith(resumed, 'DATA_INVALID'), /the checkpoint of this run is damaged/);
  }
  rmSync(file);
  await rejectsWith(resumed, 'DATA_INVALID');
  writeFileSync(file, right);
  const state = join(path, 'state.json');
  const text = readFileSync(state, 'utf8');
  for (const damage of [
    '',
    text.replace('"total":1', '"total":2'),
    text.slice(0, -9),
    text.replace('checkpoint 1', 'checkpoint 0'),
  ]) {
    writeFileSync(state, damage);
    await rejectsWith(resumed, 'DATA_INVALID');
  }
  // A state whose hash is right, as of a program that wants to deceive: names of files cannot lead out of the folder.
  const body = text.split('\n')[1]!;
  const lie = (changed: string) => {
    const sha256 = createHash('sha256').update(changed).digest('hex');
    writeFileSync(state, `${JSON.stringify({ format: 'rm-engine checkpoint 1', sha256 })}\n${changed}\n`);
  };
  lie(body);
  await (await RunJournal.resume(device, path, options)).leave();
  const lies = [
    body.replace(bytes!, '../../../etc/passwd'),
    body.replace(bytes!, bytes!.toUpperCase()),
    body.replace(/"byteLength":\d+/, '"byteLength":-1'),
    body.replace(/"byteLength":\d+/, '"byteLength":1e99'),
    body.replace(/"type":"\w+"/, '"type":"constructor"'),
    body.replace('$array', '$function'),
    body.replace(/"cursors":\{"([^"]+)":\d+/, '"cursors":{"$1":0.5'),
    body.replace('"live"', '"Live"'),
    body.replace('"done":{', `"done":{"deep":${'['.repeat(5000)}${']'.repeat(5000)},`),
    body.replace('"done":{', '"done":{"/x":{"$map":[1]},'),
    body.replace('"done":{', '"done":{"/x":{"$tensor":null},'),
    body.replace(
      '"done":{',
      '"done":{"/x":{"$tensor":{"shape":[2],"dtype":"f32","label":"","index":0,"place":"here","bytes":"AA=="}},',
    ),
    body.replace('"done":{', '"done":{"/x":{"$undefined":true,"more":1},'),
    'null',
    '[]',
  ];
  for (const [i, changed] of lies.entries()) {
    assert.is.not(changed, body, `lie ${i}`);
    lie(changed);
    await rejectsWith(() => RunJournal.resume(device, path, options), 'DATA_INVALID');
  }
  writeFileSync(state, text);
  // What a killed save has left goes.
  const part = join(path, '01234567-89ab-cdef-0123-456789abcdef.part');
  writeFileSync(part, 'half');
  assert.is(await resumed(), 10);
  assert.is(existsSync(part), false);
});

test('two runs at once: the second is refused; a dead one holds nothing', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  const device = undefined as never;
  await killedRun(device, path);
  const lock = join(path, 'lock');
  const held = (pid: number, host: string) =>
    writeFileSync(lock, JSON.stringify({ token: 'other', pid, host }));
  const { hostname } = await import('node:os');
  held(process.ppid, hostname());
  assert.match(
    await rejectsWith(() => RunJournal.resume(device, path, options), 'OUTPUT_EXISTS'),
    new RegExp(`in use by another run \\(process ${process.ppid} on`),
  );
  held(1, 'another machine');
  await rejectsWith(() => RunJournal.resume(device, path, options), 'OUTPUT_EXISTS');
  const { utimesSync } = await import('node:fs');
  utimesSync(lock, 0, 0);
  const journal = await RunJournal.resume(device, path, options);
  // Another run has taken this one for dead: it saves nothing any more.
  held(process.ppid, hostname());
  await rejectsWith(() => journal.save(), 'OUTPUT_EXISTS');
  await journal.leave();
  // No process has this number.
  held(2 ** 22 + 1, hostname());
  assert.is(await oneWalk(await RunJournal.resume(device, path, options), 5), 10);
});

test('where nothing can be saved the run goes on, and says so once', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'file', 'out.checkpoint');
  writeFileSync(join(place.path, 'file'), '');
  const said: string[] = [];
  const journal = RunJournal.begin(undefined as never, path, {
    every: 0,
    onFailure: reason => said.push(reason),
  });
  assert.is(await oneWalk(journal, 5), 10);
  assert.is(said.length, 1);
  assert.match(said[0]!, /cannot be written: part of the path is a file/);
});

/** A run with a step of 10 MB after the other. */
async function largeSteps(journal: Journal, count: number): Promise<void> {
  for (let step = 0; step < count; step++) {
    await journal.step(`step ${step}`, async () => new Uint8Array(1e7).fill(step));
  }
}

test('large results are not kept in memory until a save is due: they are saved at once, or given up', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  const journal = RunJournal.begin(undefined as never, path, { every: 1000 });
  await largeSteps(journal, 1);
  assert.is(existsSync(path), false);
  await largeSteps(journal, 2);
  assert.is(readdirSync(path).filter(name => /^[0-9a-f]{64}$/.test(name)).length, 2, 'each has its file');
  await journal.finish();
  const said: string[] = [];
  writeFileSync(join(place.path, 'file'), '');
  const lost = RunJournal.begin(undefined as never, join(place.path, 'file', 'out.checkpoint'), {
    every: 1000,
    onFailure: reason => said.push(reason),
  });
  await largeSteps(lost, 5);
  assert.is(said.length, 1);
  assert.is(await lost.leave(), false);
});

test('tensors that wait on the disk are kept, and wait again in the run that goes on', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  await using waiting = new SpillFile(join(place.path, 'out'));
  const bytes = Uint8Array.from({ length: 60_000 }, (_, i) => i % 251);
  const found = async (journal: Journal) =>
    await journal.step('fit', async () => {
      const add = (part: Uint8Array) =>
        waiting.addBytes(
          [part.byteLength / 2],
          'bf16',
          (async function* () {
            yield part;
          })(),
        );
      return new Map([[3, { large: await add(bytes), small: await add(bytes.subarray(0, 10)) }]]);
    });
  const journal = RunJournal.begin(undefined as never, path, options);
  await found(journal);
  await journal.leave();
  const next = await RunJournal.resume(undefined as never, path, options);
  const { large, small } = (await found(next)).get(3)!;
  assert.equal([large.shape, large.dtype, small.shape], [[30_000], 'bf16', [5]]);
  assert.equal(await large.read(), bytes);
  assert.equal(await small.read(4, 6), bytes.subarray(4, 10));
  assert.equal(readdirSync(place.path), ['out.checkpoint'], 'where they wait has no name');
  await next.leave();
});

test('an interrupted run saves once more where that is quick', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  const device = undefined as never;
  await killedRun(device, path);
  const controller = new AbortController();
  const journal = await RunJournal.resume(device, path, { every: 1000, signal: controller.signal });
  const error = await oneWalk(
    {
      ...noJournal,
      track: (...args) => journal.track(...args),
      forEach: (name, count, visit) =>
        journal.forEach(name, count, async index => {
          await visit(index);
          if (index === 3) controller.abort(new Error('interrupted'));
        }),
    },
    5,
  ).catch((caught: RmError) => caught);
  assert.match(`${error}`, 'interrupted');
  assert.is(await journal.leave(), true);
  let visits = 0;
  const last = await RunJournal.resume(device, path, options);
  await last.forEach('other', 0, async () => {});
  const total = await oneWalk(
    {
      ...noJournal,
      track: (...args) => last.track(...args),
      forEach: (name, count, visit) =>
        last.forEach(name, count, async index => {
          visits++;
          await visit(index);
        }),
    },
    5,
  );
  assert.equal([total, visits], [10, 1]);
});

test.run();
