/** Neuron transplant: on models whose neurons are known, and the choice by energy by itself. Costs 10 s. */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { bestNeurons } from '../../replaceme/fits/transplant/neurons.js';
import { planPrune, prune } from '../../replaceme/index.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import { familyData } from '../familyData.js';
import { temporaryFolder } from '../support.js';
import { tinyConfig, writeTinyModel } from '../tinyModel.js';
import { familySequences } from './prunedFamily.js';
import { options, plainBatches, repairContext, workplace } from './workplace.js';

test('the best neurons of several layers, the earlier layer first where energies are equal', () => {
  const layer = (index: number, energies: number[]) => ({
    layer: index,
    energies: Float32Array.from(energies),
    neurons: {
      count: 3,
      up: Float32Array.from([1, 2, 3, 4, 5, 6], value => 10 * index + value),
      down: Float32Array.from([1, 2, 3, 4, 5, 6], value => -10 * index - value),
      upBias: Float32Array.from([0, 1, 2], value => index + value / 10),
    },
  });
  const first = bestNeurons(undefined, layer(1, [5, 1, 3]), 3);
  const both = bestNeurons(first, layer(2, [0, 4, 3]), 3);
  assert.equal(
    both.ranks.map(({ layer, energy }) => [layer, energy]),
    [
      [1, 5],
      [2, 4],
      [1, 3],
    ],
  );
  assert.equal([...both.up], [11, 12, 23, 24, 15, 16]);
  assert.equal([...both.down], [-11, -12, -23, -24, -15, -16]);
  assert.equal([...both.upBias!], [...Float32Array.of(1, 2.1, 1.2)]);
  assert.is(both.gate, undefined);
});

const { intermediate_size, hidden_size } = tinyConfig;
const half = intermediate_size / 2;

/** Keeps the columns of a down_proj that `lives` says and makes them small, so that layers hardly see one another. */
function thin(values: Float32Array, lives: (neuron: number) => boolean): void {
  for (let at = 0; at < values.length; at++) values[at]! *= lives(at % intermediate_size) ? 0.02 : 0;
}

/** Half of the neurons of layer 2 and the other half of layer 3 do nothing, and layer 3 attends to nothing. */
function halved(name: string, values: Float32Array): void {
  if (name.includes('layers.3.self_attn.o_proj')) values.fill(0);
  if (name.includes('layers.3.mlp.down_proj')) thin(values, neuron => neuron < half);
  if (name.includes('layers.2.mlp.down_proj')) thin(values, neuron => neuron >= half);
}

const sequences = Array.from({ length: 40 }, (_, s) =>
  Array.from({ length: 24 }, (_, i) => (s * 31 + i * i * 7 + ((s * i) % 11) * 5) % 250),
);

test('where half the neurons of two layers do nothing, one layer has room for the others of both', async () => {
  using folder = temporaryFolder();
  await writeTinyModel(folder.path, {
    values: halved,
  });
  await using device = await Device.open();
  await using model = await Model.load(device, folder.path);
  assert.is(model.arch.hidden, hidden_size);
  const context = repairContext(model, plainBatches(sequences, 128), { attentionStep: 0 });
  const windows = [{ layer: 2, count: 1 }];
  const repaired = async (method: string) => {
    const { changes, details } = await methodNamed(method).repair(context, windows);
    for (const weights of changes.layers?.values() ?? []) {
      for (const tensor of Object.values(weights)) tensor?.dispose();
    }
    return details as { neurons?: string; tokenResidual: number };
  };
  const [refitted, transplanted] = [await repaired('refit'), await repaired('transplant')];
  assert.is(transplanted.neurons, `2: ${half}, 3: ${half}`);
  console.log(`residual of refit ${refitted.tokenResidual}, of transplant ${transplanted.tokenResidual}`);
  assert.ok(transplanted.tokenResidual < 0.02 * refitted.tokenResidual);
});

test('the peak is as planned, and pursuit is planned to take longer', async () => {
  using place = await workplace({
    config: { hidden_size: 64, intermediate_size: 512, head_dim: 16, _layer_marks: undefined },
  });
  const flops: number[] = [];
  for (const neurons of ['energy', 'omp'] as const) {
    await using device = await Device.open();
    const wanted = {
      method: 'transplant',
      neurons,
      window: 2,
      batchTokens: 128,
      report: 'none' as const,
      device,
    };
    const out = join(place.path, neurons);
    const { peakMemoryBytes, plan } = await prune(place.model, out, options(place.calibration, wanted));
    const share = peakMemoryBytes / plan!.memory.total;
    assert.ok(Math.abs(share - 1) < 0.1, `${neurons}: ${share} of the plan`);
    const layers = neurons === 'omp' ? 3 : 2;
    assert.is(plan!.memory.host, layers * 3 * 4 * 64 * 512);
    const { phases } = await planPrune(place.model, options(place.calibration, wanted));
    flops.push(phases.find(({ name }) => name === 'fit')!.flops);
  }
  assert.ok(flops[1]! > 1.5 * flops[0]!, `${flops}`);
});

/** Pairs of neurons of layer 3 that cancel out: strong, and of no use. */
function cancelling(name: string, values: Float32Array): void {
  if (!name.includes('layers.3.mlp')) return;
  const rowed = /gate_proj|up_proj/.test(name);
  for (let neuron = half; neuron < intermediate_size; neuron += 2) {
    if (rowed) {
      const row = values.slice(neuron * hidden_size, (neuron + 1) * hidden_size);
      values.set(row, (neuron + 1) * hidden_size);
      continue;
    }
    for (let at = neuron; at < values.length; at += intermediate_size) {
      values[at] = Math.sin(at + 1);
      values[at + 1] = -values[at]!;
    }
  }
}

test('neurons that are strong and cancel out take the slots by energy, and none by pursuit', async () => {
  using folder = temporaryFolder();
  await writeTinyModel(folder.path, {
    values(name, values) {
      halved(name, values);
      cancelling(name, values);
    },
  });
  await using device = await Device.open();
  await using model = await Model.load(device, folder.path);
  const repaired = async (neurons: 'energy' | 'omp') => {
    const context = repairContext(model, plainBatches(sequences, 128), { attentionStep: 0, neurons });
    const { changes, details } = await methodNamed('transplant').repair(context, [{ layer: 2, count: 1 }]);
    for (const weights of changes.layers?.values() ?? []) {
      for (const tensor of Object.values(weights)) tensor?.dispose();
    }
    return details as { neurons: string; tokenResidual: number };
  };
  const energy = await repaired('energy');
  const live = device.memory.liveBytes;
  const omp = await repaired('omp');
  assert.is(device.memory.liveBytes, live, 'nothing stays on the device');
  console.log(
    `residual by energy ${energy.tokenResidual} (${energy.neurons}), by pursuit ${omp.tokenResidual} (${omp.neurons})`,
  );
  assert.ok(omp.tokenResidual < 0.1 * energy.tokenResidual);
});

for (const family of ['neox', 'falcon-sequential', 'granite', 'gemma3', 'olmo2']) {
  test(`${family}: pursuit leaves about as little as energy`, async () => {
    await using device = await Device.open();
    await using model = await Model.load(device, (await familyData(family)).folder);
    const known = familySequences.map(ids => ids.map(id => id % model.arch.vocab));
    const residual = async (neurons: 'energy' | 'omp') => {
      const context = repairContext(model, plainBatches(known, 256), { neurons });
      const { changes, details } = await methodNamed('transplant').repair(context, [{ layer: 1, count: 1 }]);
      for (const weights of changes.layers?.values() ?? []) {
        for (const tensor of Object.values(weights)) tensor?.dispose();
      }
      return details.tokenResidual as number;
    };
    const [energy, omp] = [await residual('energy'), await residual('omp')];
    console.log(`${family}: residual by energy ${energy}, by pursuit ${omp}`);
    assert.ok(omp < 1.2 * energy, `${omp}, by energy ${energy}`);
  });
}

test.run();
