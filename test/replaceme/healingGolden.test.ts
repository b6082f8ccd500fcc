import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type Tensor } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { openCheckpoint } from '../../model/source/openModelSource.js';
import { healByGradient } from '../../replaceme/healing/gradientHealing.js';
import { healingSettings } from '../../replaceme/healing/healingSettings.js';
import { tensorsOfTeacher } from '../../replaceme/healing/teacher.js';
import type { HealingObjective, TrainMode } from '../../replaceme/options/trainingSettings.js';

/** Made by test/python/healing_losses.py with PyTorch and transformers. */
const data = (name: string) => fileURLToPath(new URL(`../../../test/data/healing/${name}`, import.meta.url));

interface Run {
  readonly train: TrainMode;
  readonly objective: { readonly objective: HealingObjective; readonly topK: number | 'all' };
  readonly settings: Record<'learningRate' | 'warmup' | 'clip' | 'weightDecay', number>;
  /** Before each step, and after the last one. */
  readonly losses: readonly number[];
  readonly gradientNorms: readonly number[];
}

const { patched, sequences, runs } = JSON.parse(readFileSync(data('losses.json'), 'utf8')) as {
  patched: number;
  sequences: number[][];
  runs: Run[];
};

const keptLayers = [0, 1, 4];

test('20 steps of AdamW give the losses of PyTorch, for every way of healing', async () => {
  await using device = await Device.open();
  using teacher = await Model.load(device, data('teacher'));
  const [own, teachers] = [await openCheckpoint(data('pruned')), await openCheckpoint(data('teacher'))];
  const reuse = tensorsOfTeacher(teacher, teachers, own, keptLayers);
  using model = await Model.load(device, data('pruned'), { reuse });
  await own.close();
  await teachers.close();
  // The tiny student has all of its tensors from the teacher.
  assert.is(model.weights.layers[2]!.down, teacher.weights.layers[4]!.down);
  assert.is(model.weights.embedding, teacher.weights.embedding);

  const tokens = sequences.reduce((sum, { length }) => sum + length, 0);
  let live: number | undefined;
  for (const { train, objective, settings: given, losses, gradientNorms } of runs) {
    const name = `${train}, ${objective.objective}, ${objective.topK}`;
    // All sequences in every step, in two parts.
    const asked = { train, ...objective, ...given, steps: 20, batchTokens: tokens, checkpointEvery: 0 };
    const settings = healingSettings({ ...asked, microBatchTokens: 45 }, device, model.arch);
    assert.is(settings.steps, 20);
    const { changes, record } = await healByGradient({
      ...{ model, teacher: objective.objective === 'kl' ? teacher : undefined, layers: [patched], settings },
      training: sequences.map(ids => ({ ids, weight: 1 })),
      heldOut: sequences,
    });
    const found = record.steps.map(({ loss }) => loss!);
    const errors = found.map((loss, i) => Math.abs(loss - losses[i]!));
    assert.ok(Math.max(...errors) < 1e-3, `${name}: off by ${Math.max(...errors)}`);
    // What is asked for is 1e-3; f32 on both sides allows for more.
    assert.ok(Math.max(...errors) < 1e-4 * losses[0]!, `${name}: off by ${Math.max(...errors)}`);
    const norms = record.steps.map(({ gradientNorm }, i) => Math.abs(gradientNorm! / gradientNorms[i]! - 1));
    assert.ok(Math.max(...norms) < 1e-3, `${name}: norms off by ${Math.max(...norms)}`);
    const last = record.heldOut.at(-1)!;
    const after = objective.objective === 'lm' ? last.nll : last.kl!;
    if (objective.topK === 'all' || objective.objective === 'lm') {
      assert.ok(Math.abs(after - losses[20]!) < 1e-4 * losses[0]!, `${name}: ends with ${after}`);
    }
    const { layers, spilled: _, ...outer } = changes;
    const tensors = new Set<Tensor>([outer, ...layers!.values()].flatMap(of => Object.values(of)));
    if (train !== 'full') assert.equal([[...layers!.keys()], tensors.size], [[patched], 1]);
    for (const tensor of tensors) tensor.dispose();
    // The first run has made the table of rotations.
    live ??= device.memory.liveBytes;
    assert.is(device.memory.liveBytes, live, `${name}: leaves tensors behind`);
  }
});

test.run();
