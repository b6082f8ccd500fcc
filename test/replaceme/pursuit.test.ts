/** Orthogonal matching pursuit of neurons against the same in f64 on the host. Costs 6 s. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type Scope, tensorFrom } from '../../engine/index.js';
import { BatchTensors, Model } from '../../model/index.js';
import { type LayerNeurons, pursueNeurons } from '../../replaceme/fits/transplant/pursuit.js';
import { familyData } from '../familyData.js';
import { normals } from '../gpu.js';

const device = await Device.open();
test.after(() => device.close());

const [batches, tokens, count] = [2, 60, 30];

type Rows = number[][];
const rows = (n: number, width: number, seed: number): Rows => {
  const values = normals(n * width, seed);
  return Array.from({ length: n }, (_, r) => [...values.subarray(r * width, (r + 1) * width)]);
};
const flat = (of: Rows) => Float32Array.from(of.flat());
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);
const squareOf = (a: readonly number[]) => dot(a, a);

/** Solves A X = B, A [n, n], B [n, m], by Gauss-Jordan. */
function solve(a: Rows, b: Rows): Rows {
  const n = a.length;
  const all = a.map((row, i) => [...row, ...b[i]!]);
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) {
      if (j === i) continue;
      const factor = all[j]![i]! / all[i]![i]!;
      for (let k = i; k < all[i]!.length; k++) all[j]![k]! -= factor * all[i]![k]!;
    }
  }
  return all.map((row, i) => row.slice(n).map(value => value / row[i]!));
}

/** The pursuit in f64: features by neuron [candidates][tokens], D by token, both weighted. */
function pursuitOnHost(features: Rows, wanted: Rows, room: number): number[] {
  const squares = features.map(squareOf);
  const mean = squares.reduce((sum, square) => sum + square, 0) / squares.length;
  const columns = (of: Rows) => of[0]!.map((_, c) => of.map(row => row[c]!));
  let chosen: number[] = [];
  let left = wanted;
  while (chosen.length < room) {
    const channels = columns(left);
    const scores = features.map((phi, at) =>
      chosen.includes(at)
        ? -1
        : channels.reduce((sum, channel) => sum + dot(phi, channel) ** 2, 0) / (squares[at]! + 0.05 * mean),
    );
    const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!);
    chosen = [...chosen, ...order.slice(0, Math.min(Math.ceil(room / 12), room - chosen.length))];
    const gram = chosen.map(a => chosen.map(b => dot(features[a]!, features[b]!)));
    const diagonal = gram.reduce((sum, row, i) => sum + row[i]!, 0) / gram.length;
    for (const [i, row] of gram.entries()) row[i]! += 0.05 * diagonal;
    const cross = chosen.map(a => columns(wanted).map(channel => dot(features[a]!, channel)));
    const found = solve(gram, cross);
    left = wanted.map((row, t) =>
      row.map((value, c) => value - chosen.reduce((sum, a, i) => sum + features[a]![t]! * found[i]![c]!, 0)),
    );
  }
  return chosen;
}

/** By number of activation that the test models have. */
const activations = {
  silu: (x: number) => x / (1 + Math.exp(-x)),
  gelu_tanh: (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};

for (const [family, activation] of [
  ['llama', 'silu'],
  ['gemma3', 'gelu_tanh'],
] as const) {
  test(`${family}: the same neurons in the same order as on the host`, async () => {
    await using model = await Model.load(device, (await familyData(family)).folder);
    const { hidden, norm, residualScale } = model.arch;
    const act = activations[activation];
    const candidates: LayerNeurons[] = [1, 2].map(layer => ({
      layer,
      neurons: {
        count,
        gate: flat(rows(count, hidden, 10 * layer)),
        up: flat(rows(count, hidden, 10 * layer + 1)),
        down: flat(rows(count, hidden, 10 * layer + 2)),
      },
    }));
    const states = rows(batches * tokens, hidden, 1).map(row => row.map(value => Math.fround(0.4 * value)));
    const targets = rows(batches * tokens, hidden, 2).map((row, t) =>
      row.map(value => Math.fround((1 + (t % 5)) * value)),
    );
    const wanted = rows(batches * tokens, hidden, 3);
    const normed = family === 'gemma3';

    // On the host: features by neuron.
    const rowsOf = (values: Float32Array) =>
      Array.from({ length: count }, (_, f) => [...values.subarray(f * hidden, (f + 1) * hidden)]);
    const neurons = candidates.flatMap(({ neurons }) => {
      const [gate, up] = [rowsOf(neurons.gate!), rowsOf(neurons.up)];
      return gate.map((row, f) => (state: readonly number[]) => act(dot(row, state)) * dot(up[f]!, state));
    });
    const own = rowsOf(candidates[0]!.neurons.down);
    const roots = targets.map(target => squareOf(target) ** -0.25);
    const factors = states.map((state, t) => {
      if (!normed) return roots[t]!;
      const phi = neurons.slice(0, count).map(neuron => neuron(state));
      const m = Array.from({ length: hidden }, (_, c) =>
        phi.reduce((sum, value, f) => sum + value * own[f]![c]!, 0),
      );
      return (roots[t]! * residualScale) / Math.sqrt(squareOf(m) / hidden + norm.eps);
    });
    const features = neurons.map(neuron => states.map((state, t) => factors[t]! * neuron(state)));
    const expected = pursuitOnHost(
      features,
      wanted.map((row, t) => row.map(value => roots[t]! * value)),
      count,
    );

    const live = device.memory.liveBytes;
    const parts = (of: Rows) =>
      Array.from({ length: batches }, (_, b) => flat(of.slice(b * tokens, (b + 1) * tokens)));
    const held = async (of: Rows) => {
      const tensors = new BatchTensors(device);
      for (const [b, part] of parts(of).entries())
        await tensors.put(b, tensorFrom(device, part, [tokens, hidden]));
      return tensors;
    };
    {
      using heldStates = await held(states);
      using heldWanted = await held(wanted);
      using heldTargets = await held(targets);
      const compared = {
        ...{ indices: [0, 1], states: heldStates, wanted: heldWanted, normed },
        targets: { state: (index: number, scope: Scope) => heldTargets.get(index, scope) },
      };
      const progress: number[] = [];
      const found = await pursueNeurons(model, candidates, compared, count, {
        onProgress: ({ done }) => progress.push(done),
      });
      assert.equal(found, expected);
      assert.is(new Set(found).size, count);
      assert.is(progress.at(-1), count);
    }
    assert.is(device.memory.liveBytes, live, 'nothing stays on the device');
  });
}

test.run();
