import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import type { TopProbabilities } from '../../kernels/vocabulary/topKlLoss.js';
import { topLogProbabilities } from '../../kernels/vocabulary/topLogProbabilities.js';
import type { Predictions } from '../../kernels/vocabulary/vocabularyPasses.js';
import type { LayerTensorNames, TensorRef } from '../../model/architecture/architecture.js';
import {
  createLayerGradients,
  lossAndGradients,
  type ModelGradients,
} from '../../model/training/backward.js';
import { headLoss, type Objective } from '../../model/training/headLoss.js';
import type { LayerWeightName } from '../../model/training/layerBackward.js';
import { Batch } from '../../model/transformer/batch.js';
import { predictionsOf } from '../../model/transformer/headLogits.js';
import { logits } from '../../model/transformer/logits.js';
import { Model } from '../../model/transformer/model.js';
import { embedTokens, finalNorm, forward } from '../../model/transformer/transformer.js';
import { normals, rejectsWith, relativeError } from '../gpu.js';
import { dataPath, type GoldenTensor, readGolden } from '../support.js';

// Models and gradients: test/python/make_gradients.py.
const folder = join(
  dirname(fileURLToPath(import.meta.url)),
  ...['..', '..', '..', 'test', 'data', 'gradients'],
);

/** A tiny model, its batch and what PyTorch makes of both. */
class Workplace {
  private constructor(
    readonly model: Model,
    readonly golden: Map<string, GoldenTensor>,
    readonly scope: Scope,
    readonly batch: Batch,
  ) {}

  static async open(device: Device, name: string): Promise<Workplace> {
    const model = await Model.load(device, join(folder, name));
    const golden = await readGolden(join(folder, name, 'gradients.safetensors'));
    const ids = [...golden.get('ids')!.values];
    const sequences = [...golden.get('lengths')!.values].map(length => ids.splice(0, length));
    return new Workplace(model, golden, new Scope(device), new Batch(device, sequences));
  }

  values(name: string): Float64Array {
    const found = this.golden.get(name);
    assert.ok(found, `golden tensor ${name}`);
    return found!.values;
  }

  f32(name: string): Tensor {
    const { shape } = this.golden.get(name)!;
    return this.scope.own(tensorFrom(this.model.device, Float32Array.from(this.values(name)), shape, name));
  }

  /** The gradient of what a reference means, which may be some rows of a stored tensor. */
  expected(kind: string, ref: TensorRef): Float64Array {
    if (typeof ref === 'string') return this.values(`${kind}/${ref}`);
    if (!('runs' in ref)) throw new Error('a stack of tensors is no part of one');
    const { shape, values } = this.golden.get(`${kind}/${ref.name}`)!;
    const columns = shape[1] ?? 1;
    const rows: number[] = [];
    for (let run = 0; run < ref.runs; run++) {
      const at = (ref.first + run * ref.stride) * columns;
      rows.push(...values.subarray(at, at + ref.count * columns));
    }
    return Float64Array.from(rows);
  }

  objective(kind: Objective['kind']): Objective {
    if (kind === 'lm') {
      const ids = Uint32Array.from(this.values('targets'));
      return { kind, targets: this.scope.own(tensorFrom(this.model.device, ids)) };
    }
    const teacher: Predictions = { hidden: this.f32('teacher.hidden'), head: this.f32('teacher.head') };
    if (kind === 'kl') return { kind, teacher };
    const { tokens } = this.batch;
    const top: TopProbabilities = {
      ids: this.scope.tensor([tokens, 5], 'u32'),
      logProbabilities: this.scope.tensor([tokens, 5]),
      logRest: this.scope.tensor([tokens]),
    };
    topLogProbabilities(this.model.device.recorder, teacher, top);
    return { kind, teacher: top };
  }

  zeros(like: Tensor): Tensor {
    const tensor = this.scope.tensor(like.shape);
    this.model.device.recorder.clear(tensor);
    return tensor;
  }

  /** Gradients of all weights that the checkpoint has; of tied embeddings one for both. */
  all(): ModelGradients {
    const { weights, arch } = this.model;
    const names = (layer: number) =>
      (Object.entries(arch.tensorNames.layers[layer]!) as [LayerWeightName, TensorRef | null][])
        .filter(([, ref]) => ref !== null)
        .map(([name]) => name);
    const embedding = this.zeros(weights.embedding);
    return {
      layers: new Map(
        weights.layers.map((layer, i) => [i, createLayerGradients(this.scope, layer, names(i))] as const),
      ),
      embedding,
      lmHead: arch.tiedEmbeddings ? embedding : this.zeros(weights.lmHead),
      finalNorm: this.zeros(weights.finalNorm),
      finalNormBias: weights.finalNormBias && this.zeros(weights.finalNormBias),
    };
  }

  [Symbol.dispose](): void {
    this.scope.dispose();
    this.batch.dispose();
    this.model.dispose();
  }
}

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

async function near(
  found: Tensor,
  expected: ArrayLike<number>,
  what: string,
  tolerance = 1e-4,
): Promise<void> {
  const error = relativeError(await downloadF32(found), expected);
  assert.ok(error <= tolerance, `${what}: relative error ${error.toExponential(2)}`);
}

for (const name of readdirSync(folder).sort()) {
  test(`${name}: losses and the gradients of every parameter are PyTorch's, for every objective`, async () => {
    const before = device.memory.liveBytes;
    {
      using place = await Workplace.open(device, name);
      const { model, batch, scope } = place;
      const { tensorNames } = model.arch;
      const weights = place.f32('weights');
      for (const kind of ['lm', 'kl', 'top-kl'] as const) {
        const gradients = place.all();
        const loss = scope.tensor([batch.tokens]);
        lossAndGradients(model, batch, place.objective(kind), weights, loss, gradients);
        await near(loss, place.values(`loss.${kind}`), `loss of ${kind}`, 1e-5);
        for (const [layer, found] of gradients.layers) {
          const names = tensorNames.layers[layer]!;
          for (const [weight, tensor] of Object.entries(found) as [keyof LayerTensorNames, Tensor][]) {
            await near(tensor, place.expected(kind, names[weight]!), `${kind}, ${weight} of layer ${layer}`);
          }
        }
        await near(
          gradients.embedding!,
          place.values(`${kind}/${tensorNames.embedding}`),
          `${kind}, embedding`,
        );
        await near(gradients.lmHead!, place.values(`${kind}/${tensorNames.lmHead}`), `${kind}, head`);
        await near(gradients.finalNorm!, place.values(`${kind}/${tensorNames.finalNorm}`), `${kind}, norm`);
        if (gradients.finalNormBias) {
          const bias = place.values(`${kind}/${tensorNames.finalNormBias}`);
          await near(gradients.finalNormBias, bias, `${kind}, bias of the norm`);
        }
      }
    }
    assert.is(device.memory.liveBytes, before, 'live bytes afterwards');
  });
}

test('each weight alone, from the layer it is in: the same gradient, and two passes add up', async () => {
  using place = await Workplace.open(device, 'gpt_neox');
  const { model, batch, scope } = place;
  const [weights, objective] = [place.f32('weights'), place.objective('lm')];
  const loss = scope.tensor([batch.tokens]);
  const states = scope.own(embedTokens(model, batch));
  const input = scope.own(forward(model, batch, { to: 1, input: states }));
  for (const [weight, ref] of Object.entries(model.arch.tensorNames.layers[1]!) as [
    LayerWeightName,
    TensorRef | null,
  ][]) {
    if (!ref) continue;
    const gradients = createLayerGradients(scope, model.weights.layers[1]!, [weight]);
    const only = { layers: new Map([[1, gradients]]) };
    lossAndGradients(model, batch, objective, weights, loss, only, { from: 1, input });
    lossAndGradients(model, batch, objective, weights, loss, only);
    const twice = place.expected('lm', ref).map(value => 2 * value);
    await near(gradients[weight]!, twice, weight);
  }
});

test('the transform T of the MLP output: its gradient is W Gᵀ, with G that of the W it folds into', async () => {
  using place = await Workplace.open(device, 'llama');
  const { model, batch, scope } = place;
  const { hidden, intermediate, tensorNames } = model.arch;
  const identity = Float32Array.from({ length: hidden ** 2 }, (_, i) => (i % (hidden + 1) === 0 ? 1 : 0));
  const mlpMap = scope.own(tensorFrom(device, identity, [hidden, hidden]));
  const mapped = model.withLayers([0, 1], { layers: new Map([[0, { mlpMap }]]) });
  const gradients = createLayerGradients(scope, mapped.weights.layers[0]!, ['mlpMap', 'down']);
  const loss = scope.tensor([batch.tokens]);
  const layers = new Map([[0, gradients]]);
  lossAndGradients(mapped, batch, place.objective('kl'), place.f32('weights'), loss, { layers });
  await near(loss, place.values('loss.kl'), 'loss', 1e-5);
  const down = place.expected('kl', tensorNames.layers[0]!.down);
  await near(gradients.down!, down, 'down');
  const w = await downloadF32(model.weights.layers[0]!.down);
  const expected = Float64Array.from({ length: hidden ** 2 }, (_, i) => {
    const [a, b] = [Math.floor(i / hidden), i % hidden];
    let sum = 0;
    for (let c = 0; c < intermediate; c++) sum += w[a * intermediate + c]! * down[b * intermediate + c]!;
    return sum;
  });
  await near(gradients.mlpMap!, expected, 'T');
});

test('maps of the MLP output and of the residual stream: the loss changes as their gradients say', async () => {
  using place = await Workplace.open(device, 'qwen2');
  const { model, batch, scope } = place;
  const { hidden } = model.arch;
  const [weights, objective] = [place.f32('weights'), place.objective('lm')];
  const loss = scope.tensor([batch.tokens]);
  const start = normals(hidden ** 2, 1).map((x, i) => 0.2 * x + (i % (hidden + 1) === 0 ? 1 : 0));
  for (const name of ['mlpMap', 'residualMap'] as const) {
    const direction = normals(hidden ** 2, 2);
    const at = (step: number) => {
      const values = start.map((x, i) => x + step * direction[i]!);
      const map = scope.own(tensorFrom(device, values, [hidden, hidden]));
      return model.withLayers([0, 1], { layers: new Map([[0, { [name]: map }]]) });
    };
    const lossAt = async (step: number) => {
      const moved = at(step);
      using output = forward(moved, batch);
      headLoss(moved, output, objective, weights, loss);
      const values = await downloadF32(loss);
      return values.reduce((sum, value, t) => sum + value * place.values('weights')[t]!, 0);
    };
    const mapped = at(0);
    const gradients = createLayerGradients(scope, mapped.weights.layers[0]!, [name]);
    lossAndGradients(mapped, batch, objective, weights, loss, { layers: new Map([[0, gradients]]) });
    const found = await downloadF32(gradients[name]!);
    const slope = found.reduce((sum, value, i) => sum + value * direction[i]!, 0);
    const h = 2e-3;
    const expected = ((await lossAt(h)) - (await lossAt(-h))) / (2 * h);
    assert.ok(
      Math.abs(slope - expected) < 2e-3 * Math.abs(expected),
      `${name}: ${slope}, by differences ${expected}`,
    );
  }
});

test('the gradient of a head bias is the sum of p - target, token by token', async () => {
  using scope = new Scope(device);
  using model = await Model.load(device, dataPath('families', 'phi'));
  const ids = [5, 9, 3, 40];
  using batch = new Batch(device, [ids]);
  const hidden = scope.own(forward(model, batch));
  const targets = scope.own(tensorFrom(device, Uint32Array.from([9, 3, 40, 0])));
  const shares = [0.5, 0.25, 1, 0];
  const weights = scope.own(tensorFrom(device, Float32Array.from(shares)));
  const lmHeadBias = scope.tensor([model.arch.vocab]);
  device.recorder.clear(lmHeadBias);
  headLoss(model, hidden, { kind: 'lm', targets }, weights, scope.tensor([4]), { lmHeadBias });
  const { logits: values } = await logits(model, ids);
  const expected = new Float64Array(model.arch.vocab);
  for (const [t, share] of shares.entries()) {
    const row = values.subarray(t * expected.length, (t + 1) * expected.length);
    const sum = row.reduce((total, value) => total + Math.exp(value), 0);
    row.forEach((value, token) => {
      expected[token]! += share * (Math.exp(value) / sum - (ids[t + 1] === token ? 1 : 0));
    });
  }
  await near(lmHeadBias, expected, 'bias of the head');
});

for (const family of ['phi', 'granite', 'gemma2']) {
  test(`${family}: a model is its own teacher, whatever its head adds, scales and caps`, async () => {
    using scope = new Scope(device);
    using model = await Model.load(device, dataPath('families', family));
    using batch = new Batch(device, [[5, 9, 3, 40]]);
    const hidden = scope.own(forward(model, batch));
    const teacher = predictionsOf(model, scope.own(finalNorm(model, hidden)));
    const [weights, loss] = [scope.own(tensorFrom(device, new Float32Array(4))), scope.tensor([4])];
    headLoss(model, hidden, { kind: 'kl', teacher }, weights, loss);
    assert.ok(Math.max(...(await downloadF32(loss)).map(Math.abs)) < 1e-6);
  });
}

test('what has no gradient is refused', async () => {
  using place = await Workplace.open(device, 'llama');
  const { model, batch, scope } = place;
  const [weights, objective] = [place.f32('weights'), place.objective('lm')];
  const loss = scope.tensor([batch.tokens]);
  const input = scope.own(embedTokens(model, batch));
  const run = (gradients: ModelGradients, options = {}) =>
    rejectsWith(
      () => lossAndGradients(model, batch, objective, weights, loss, gradients, options),
      'INVALID_ARGUMENT',
    );
  const down = scope.tensor(model.weights.layers[0]!.down.shape);
  assert.match(await run({ layers: new Map([[0, { down }]]) }, { from: 1, input }), 'below layer 1');
  assert.match(await run({ layers: new Map([[0, { up: down }]]) }), "'up'");
  assert.match(await run({ layers: new Map([[0, { downBias: down }]]) }), 'missing');
  using shared = new Batch(
    device,
    [
      [1, 2, 3],
      [1, 2, 4],
    ],
    { shared: [0, 2] },
  );
  await rejectsWith(
    () =>
      lossAndGradients(
        model,
        shared,
        objective,
        scope.tensor([shared.tokens]),
        scope.tensor([shared.tokens]),
        {
          layers: new Map([[0, { down }]]),
        },
      ),
    'INVALID_ARGUMENT',
  );
});

test.run();
