import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { addInto } from '../../kernels/map/named.js';
import { openSealedTensors, type SealedSource, writeSealedTensors } from '../../model/index.js';
import { readCheckpoint, writeCheckpoint } from '../../replaceme/healing/checkpointFile.js';
import { learningRateAt } from '../../replaceme/healing/schedule.js';
import { SequenceOrder, type TrainingSequence } from '../../replaceme/healing/sequenceOrder.js';
import {
  type LoopSettings,
  type LoopState,
  train,
  zeroMoments,
} from '../../replaceme/healing/trainingLoop.js';
import type { TrainingTask } from '../../replaceme/healing/trainingTask.js';
import { skippedSteps } from '../../replaceme/run/trainingRecord.js';
import { maxAbsError, normals, rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const SIZE = 24;

/** Sequences of three tokens that say where the bowl of a step lies: by their first. */
const texts: TrainingSequence[] = Array.from({ length: 7 }, (_, i) => ({
  ids: [i, 0, 0],
  weight: i % 2 === 0 ? 1 : 0.5,
}));

const settings: LoopSettings = {
  ...{ steps: 12, learningRate: 0.05, warmup: 3, weightDecay: 0.1, clip: 2, seed: 5 },
  // Two sequences a step, one at a time.
  ...{ batchTokens: 6, microBatchTokens: 3, evaluateEvery: 4, checkpointEvery: 5 },
};

/** Of element i the loss (x_i - c_i)² / 2 with c_i = sin(i + first token), times two predictions. */
const centre = (i: number, first: number): number => Math.sin(i + first);

/** The quadratic as a task on the device; the values begin as `start`. `spoil` may alter a loss. */
function bowl(
  scope: Scope,
  start: Float32Array,
  spoil: (loss: number, call: number) => number = loss => loss,
): TrainingTask {
  const { device } = scope;
  const values = scope.own(tensorFrom(device, start, [4, 6], 'x'));
  const gradient = scope.tensor([4, 6]);
  const towards = scope.own(tensorFrom(device, new Float32Array(SIZE).fill(1), [4, 6], 'ones'));
  let calls = 0;
  return {
    parameters: [{ name: 'x', values, gradient, decays: true, towards }],
    async addGradients(sequences, scale) {
      const x = await downloadF32(values);
      const slope = new Float32Array(SIZE);
      let loss = 0;
      for (const { ids, weight } of sequences) {
        for (let i = 0; i < SIZE; i++) {
          const away = x[i]! - centre(i, ids[0]!);
          slope[i]! += 2 * scale * weight * away;
          loss += scale * weight * away * away;
        }
      }
      using added = tensorFrom(device, slope, [4, 6]);
      addInto(device.recorder, gradient, added);
      return spoil(loss, calls++);
    },
    heldOut: async () => undefined,
  };
}

/** AdamW in f64 on the same steps, as PyTorch's documentation writes it, the decay towards 1. */
function reference(start: Float32Array): { losses: number[]; x: Float64Array } {
  const x = Float64Array.from(start);
  const [m, v] = [new Float64Array(SIZE), new Float64Array(SIZE)];
  const order = new SequenceOrder(texts, settings.seed);
  const losses: number[] = [];
  for (let step = 1; step <= settings.steps; step++) {
    const taken = order.next(settings.batchTokens);
    const total = 2 * taken.reduce((sum, { weight }) => sum + weight, 0);
    const g = new Float64Array(SIZE);
    let loss = 0;
    for (const { ids, weight } of taken) {
      for (let i = 0; i < SIZE; i++) {
        const away = x[i]! - centre(i, ids[0]!);
        g[i]! += (2 * weight * away) / total;
        loss += (weight * away * away) / total;
      }
    }
    losses.push(loss);
    const norm = Math.hypot(...g);
    const factor = Math.min(1, settings.clip / (norm + 1e-6));
    const rate = step <= 3 ? (0.05 * step) / 4 : 0.025 * (1 + Math.cos((Math.PI * (step - 4)) / 9));
    for (let i = 0; i < SIZE; i++) {
      x[i] = 1 + (1 - rate * 0.1) * (x[i]! - 1);
      m[i] = 0.9 * m[i]! + 0.1 * factor * g[i]!;
      v[i] = 0.999 * v[i]! + 0.001 * (factor * g[i]!) ** 2;
      x[i]! -= (rate * (m[i]! / (1 - 0.9 ** step))) / (Math.sqrt(v[i]! / (1 - 0.999 ** step)) + 1e-8);
    }
  }
  return { losses, x };
}

const start = Float32Array.from(normals(SIZE, 3));

test('AdamW with warm-up, cosine, clipping, decay and added gradients is what it is in f64', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  const task = bowl(scope, start);
  const { steps } = await train(device, task, texts, zeroMoments(scope, task.parameters), settings);
  const expected = reference(start);
  assert.is(steps.length, 12);
  const errors = steps.map(({ loss }, i) => Math.abs(loss! / expected.losses[i]! - 1));
  assert.ok(Math.max(...errors) < 1e-5, `${Math.max(...errors)}`);
  assert.ok(maxAbsError(await downloadF32(task.parameters[0]!.values), expected.x) < 1e-5);
});

test('the learning rate rises in equal parts and ends one step before zero', () => {
  const schedule = { learningRate: 1, steps: 10, warmup: 3 };
  const rates = Array.from({ length: 11 }, (_, i) => learningRateAt(i + 1, schedule));
  assert.equal(rates.slice(0, 4), [0.25, 0.5, 0.75, 1]);
  assert.ok(rates.slice(3, 10).every((rate, i, all) => i === 0 || rate < all[i - 1]!));
  assert.ok(Math.abs(rates[10]!) < 1e-12 && rates[9]! > 0.01);
  assert.is(learningRateAt(1, { learningRate: 2, steps: 1, warmup: 0 }), 2);
});

test('every sequence comes once in an epoch, in another order in the next, and from any position the same', () => {
  const order = new SequenceOrder(texts, 7);
  const first = Array.from({ length: 7 }, () => order.next(1)[0]!.ids[0]!);
  const { position } = order;
  const second = Array.from({ length: 7 }, () => order.next(1)[0]!.ids[0]!);
  assert.equal([...first].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.equal([...second].sort(), [0, 1, 2, 3, 4, 5, 6]);
  assert.not.equal(first, second);
  const again = new SequenceOrder(texts, 7, position);
  assert.equal(
    Array.from({ length: 7 }, () => again.next(1)[0]!.ids[0]!),
    second,
  );
  assert.is(new SequenceOrder(texts, 7).next(9).length, 3, 'as many as the tokens allow');
});

/** Changes the checkpoint at `path` in ways that its hash finds, and then in ways that a right hash hides. */
async function damagedStates(path: string, parameter: string, read: () => Promise<unknown>): Promise<void> {
  const whole = readFileSync(path);
  const header = 8 + Number(whole.readBigUInt64LE(0));
  for (let at = 9; at < whole.byteLength; at += at < header ? 13 : 97) {
    const bytes = Buffer.from(whole);
    bytes[at]! ^= 1;
    writeFileSync(path, bytes);
    // Spaces that fill up the header may change; the content may not.
    if (whole[at] !== 32) await rejectsWith(read, 'DATA_INVALID');
  }
  const kind = { format: 'rm-engine healing 2', what: 'checkpoint', fix: '' };
  writeFileSync(path, whole);
  const file = await openSealedTensors(path, kind);
  const tensors: SealedSource[] = [];
  for (const name of file.names) {
    const bytes = await file.read(name);
    tensors.push({ name, shape: file.shapeOf(name), bytes: () => bytes });
  }
  await file.close();
  type Json = ReturnType<typeof JSON.parse>;
  const lies: [change: (content: Json, tensors: SealedSource[]) => unknown, words: RegExp][] = [
    [({ state }) => (state.steps[2].step = 7), /steps are not 1, 2, 3/],
    [({ state }) => (state.steps = []), /list of 0/],
    [({ state }) => (state.steps[0].loss = 'low'), /loss is "low"/],
    [
      ({ state }) =>
        state.steps.push(...Array.from({ length: 9 }, (_, i) => ({ ...state.steps[0], step: 6 + i }))),
      /14 steps of 12/,
    ],
    [({ state }) => (state.position.used = 1e9), /texts/],
    [({ state }) => (state.position.epoch = -1), /epoch is -1/],
    [({ state }) => state.heldOut.push({ step: 9, nll: 1 }), /steps that it has not taken/],
    [content => delete content.state, /state is missing/],
    [(_, all) => all.pop(), /tensors of/],
    [(_, all) => (all[0] = { ...all[0]!, name: 'other' }), /is missing/],
    [(_, all) => (all[0] = { ...all[0]!, shape: [1, ...all[0]!.shape] }), /not \[/],
  ];
  for (const [change, words] of lies) {
    const [content, changed] = [structuredClone(file.description), [...tensors]];
    change(content, changed);
    await writeSealedTensors(path, kind, content, changed);
    assert.match(await rejectsWith(read, 'DATA_INVALID'), words);
  }
  const bytes = new Uint8Array(tensors[0]!.shape.reduce((a, b) => a * b, 4)).fill(255);
  await writeSealedTensors(path, kind, file.description, [
    { ...tensors[0]!, bytes: () => bytes },
    ...tensors.slice(1),
  ]);
  assert.match(await rejectsWith(read, 'DATA_INVALID'), new RegExp(`${parameter} .*not finite`));
}

test('a run that is taken up again from its file goes on bit by bit; one of other settings is refused', async () => {
  await using device = await Device.open();
  using folder = temporaryFolder();
  const path = join(folder.path, 'state.safetensors');
  const size = { steps: 12, sequences: texts.length };
  const recipe = { steps: 12, learningRate: 0.05, texts: ['a'.repeat(64)] };
  using scope = new Scope(device);
  const task = bowl(scope, start);
  const tensors = { parameters: task.parameters, moments: zeroMoments(scope, task.parameters) };
  const saves: number[] = [];
  const save = async (state: LoopState) => {
    saves.push(state.steps.length);
    if (saves.length === 1) await writeCheckpoint(path, recipe, state, tensors);
  };
  const whole = await train(device, task, texts, tensors.moments, settings, { save });
  assert.equal(saves, [5, 10]);

  const other = bowl(scope, Float32Array.from(normals(SIZE, 9)));
  const others = { parameters: other.parameters, moments: zeroMoments(scope, other.parameters) };
  const message = await rejectsWith(
    () => readCheckpoint(path, { ...recipe, learningRate: 0.1 }, size, others),
    'INVALID_ARGUMENT',
  );
  assert.match(message, /the learningRate: 0\.05 there, 0\.1 now/);
  const state = await readCheckpoint(path, recipe, size, others);
  assert.is(state!.steps.length, 5);
  const rest = await train(device, other, texts, others.moments, settings, { state });
  assert.equal(rest.steps, whole.steps);
  assert.equal(await downloadF32(other.parameters[0]!.values), await downloadF32(task.parameters[0]!.values));

  assert.is(await readCheckpoint(join(folder.path, 'none'), recipe, size, others), undefined);
  await damagedStates(path, others.parameters[0]!.name, () => readCheckpoint(path, recipe, size, others));
  writeFileSync(path, 'no checkpoint');
  await rejectsWith(() => readCheckpoint(path, recipe, size, others), 'DATA_INVALID');
  assert.ok(existsSync(path));
});

test('steps that are not finite change nothing and are counted; five in a row end the run', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  // Two calls a step: the second and the fourth step have no finite loss.
  const task = bowl(scope, start, (loss, call) => ([2, 7].includes(call) ? Number.NaN : loss));
  const moments = zeroMoments(scope, task.parameters);
  const { steps } = await train(device, task, texts, moments, settings);
  assert.is(skippedSteps(steps), 2);
  assert.equal(
    steps.flatMap(({ step, loss }) => (loss === null ? [step] : [])),
    [2, 4],
  );
  assert.ok((await downloadF32(task.parameters[0]!.values)).every(Number.isFinite));

  const broken = bowl(scope, start, (loss, call) => (call >= 4 ? Number.POSITIVE_INFINITY : loss));
  let saved = 0;
  const message = await rejectsWith(
    () =>
      train(
        device,
        broken,
        texts,
        zeroMoments(scope, broken.parameters),
        { ...settings, checkpointEvery: 1 },
        {
          save: async ({ steps }) => {
            saved = steps.length;
          },
        },
      ),
    'DIVERGED',
  );
  assert.match(message, /5 steps in a row, up to step 7/);
  assert.is(saved, 2, 'the last good one');
});

test('a learning rate that is too high ends the run, and the checkpoint is of before', async () => {
  await using device = await Device.open();
  using scope = new Scope(device);
  const task = bowl(scope, start);
  const moments = zeroMoments(scope, task.parameters);
  const steep = { ...settings, steps: 60, warmup: 20, learningRate: 40, checkpointEvery: 1 };
  const saved: LoopState[] = [];
  let losses: number[] = [];
  const message = await rejectsWith(
    () =>
      train(device, task, texts, moments, steep, {
        save: async state => {
          saved.push({ ...state, steps: [...state.steps] });
        },
        remedy: () => 'Lower the learning rate, please.',
      }),
    'DIVERGED',
  );
  assert.match(message, /the loss was .* at first and is .* at step/);
  losses = saved.at(-1)?.steps.map(({ loss }) => loss!) ?? [];
  const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / Math.max(1, values.length);
  assert.ok(losses.length < 13 && mean(losses.slice(-8)) <= 1.1 * mean(losses.slice(0, 5)) + 0.02);
});

test.run();
