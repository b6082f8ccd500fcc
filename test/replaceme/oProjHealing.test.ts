/** Healing of o_proj alone, and the choice between that and healing down_proj too. Costs 25 s. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, download, type Tensor } from '../../engine/index.js';
import { sizeClass } from '../../engine/memory.js';
import { Model } from '../../model/index.js';
import { type PrunePlan, planPrune, prune } from '../../replaceme/index.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import type { PruneOptions } from '../../replaceme/options/pruneOptions.js';
import { checkPruneRequest } from '../../replaceme/request/request.js';
import { familyData } from '../familyData.js';
import { rejectsWith } from '../gpu.js';
import { tinyConfig } from '../tinyModel.js';
import { clip } from '../vision.js';
import { familySequences } from './prunedFamily.js';
import { calibrationText, options, plainBatches, repairContext, workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

/** New weights by layer and name. */
async function healed(model: Model, heal: true | 'o-proj') {
  const known = familySequences.map(ids => ids.map(id => id % model.arch.vocab));
  const context = repairContext(model, plainBatches(known, 256), { heal });
  const { changes, details } = await methodNamed('plain').repair(context, [{ layer: 0, count: 1 }]);
  const weights = new Map<string, Uint8Array>();
  for (const [layer, changed] of changes.layers!) {
    for (const [name, tensor] of Object.entries(changed)) {
      using stored = tensor as Tensor;
      weights.set(`${layer} ${name}`, await download(stored));
    }
  }
  return { weights, details };
}

for (const family of ['llama', 'falcon', 'neox', 'olmo2', 'gemma3']) {
  test(`${family}: o_proj of every later layer is healed, the first as if down_proj were healed too`, async () => {
    await using model = await Model.load(device, (await familyData(family)).folder);
    const [alone, both] = [await healed(model, 'o-proj'), await healed(model, true)];
    const names = [...alone.weights.keys()].map(key => key.split(' ')[1]!);
    assert.ok(names.length > 0);
    assert.ok(
      names.every(name => name === 'o' || name === 'attentionOutNorm'),
      names.join(),
    );
    // The layers before are the same in both, so that o_proj has the same features and targets.
    for (const [key, bytes] of alone.weights) {
      if (key.startsWith('2 ')) assert.equal(bytes, both.weights.get(key), key);
    }
    const layers = model.arch.layers - 2;
    const tried = (details: typeof alone.details) =>
      (details.healedProjections as number) + (details.refusedProjections as number);
    assert.equal([tried(alone.details), tried(both.details)], [layers, 2 * layers]);
    assert.match(`${alone.details.healingRidges}`, /^2: (kept|[\d.]+)(, |$)/);
  });
}

test('the plan has no Gram matrix of MLP features, and the run keeps to it', async () => {
  using place = await workplace();
  const {
    hidden_size: d,
    intermediate_size: features,
    num_attention_heads: heads,
    head_dim: size,
  } = tinyConfig;
  const tokens = 500;
  const asked = (more: PruneOptions) =>
    ({ method: 'plain', layers: 2, window: 1, tokens, device, ...more }) as const;
  const plan = (more: PruneOptions) => planPrune(place.model, asked(more));
  const [alone, both] = [
    await plan({ heal: { closedForm: 'o-proj' } }),
    await plan({ heal: { closedForm: true } }),
  ];
  const attended = heads * size;
  // Two halves of G and C, a factor, and three of C's shape; A of all tokens.
  const [gram, cross] = [sizeClass(4 * attended * attended), sizeClass(4 * attended * d)];
  assert.is(alone.memory.statistics, 3 * gram + 5 * cross + 4 * tokens * attended);
  assert.ok(alone.memory.statistics < 0.5 * both.memory.statistics);
  const flops = ({ phases }: PrunePlan) => phases.find(({ name }) => name === 'heal')!.flops;
  // At the least the sums of MLP features are saved, in every layer behind the window.
  const healed = tinyConfig.num_hidden_layers - 4;
  const saved = flops(both) - flops(alone);
  assert.ok(saved > healed * tokens * features * (features + 2 * d), `${saved}`);
  const auto = await plan({ heal: { closedForm: 'auto' } });
  assert.is(flops(auto), flops(both));
  const trial = auto.phases.find(({ name }) => name === 'select')!.flops;
  // Both are tried on half of the tokens.
  assert.ok(trial > 0.4 * (flops(alone) + flops(both)), `${trial}`);
});

test('the peak is as planned', async () => {
  using place = await workplace({
    config: { hidden_size: 64, intermediate_size: 512, head_dim: 16, _layer_marks: undefined },
  });
  for (const closedForm of ['o-proj', 'auto'] as const) {
    await using own = await Device.open();
    const { peakMemoryBytes, plan } = await prune(
      place.model,
      join(place.path, closedForm),
      options(place.calibration, {
        method: 'plain',
        batchTokens: 64,
        heal: { closedForm },
        window: 0,
        report: 'none' as const,
        device: own,
      }),
    );
    const share = peakMemoryBytes / plan!.memory.total;
    assert.ok(Math.abs(share - 1) < 0.1, `${closedForm}: ${share} of the plan`);
  }
});

/** A file of several texts, which fall into two halves. */
function jsonl(folder: string, texts: readonly string[]): string {
  const path = join(folder, 'texts.jsonl');
  writeFileSync(path, texts.map(text => `${JSON.stringify({ text })}\n`).join(''));
  return path;
}

/** Whatever the later layers attend to is zero, or the features of their MLPs are. */
const mute = (part: 'v_proj' | 'up_proj') => ({
  values(name: string, values: Float32Array) {
    if (new RegExp(`layers\\.[45]\\..*${part}`).test(name)) values.fill(0);
  },
});

for (const [part, chosen] of [
  ['v_proj', true],
  ['up_proj', 'o-proj'],
] as const) {
  test(`auto where the later layers have no ${part}: ${chosen}, and the same model as by that choice`, async () => {
    using place = await workplace(mute(part));
    const texts = jsonl(place.path, calibrationText.split('\n\n'));
    const run = async (closedForm: boolean | 'o-proj' | 'auto', more: PruneOptions = {}) => {
      const out = join(place.path, `${closedForm}${more.method ?? ''}`);
      const asked = {
        method: 'refit',
        window: 2,
        batchTokens: 64,
        heal: { closedForm },
        report: 'none' as const,
        device,
        ...more,
      };
      const report = await prune(place.model, out, options(texts, asked));
      return { report, weights: readFileSync(join(out, 'model.safetensors')) };
    };
    const auto = await run('auto');
    const { fit, recipe, sentence, repeat } = auto.report;
    assert.is(fit.healed, chosen === true ? 'o_proj and down_proj' : 'o_proj');
    const [both, oProj] = [fit.heldOutKlOfBoth as number, fit.heldOutKlOfOProj as number];
    assert.ok(both > 0 && oProj > 0);
    assert.ok(chosen === true ? both < oProj : both >= oProj, `${both}, ${oProj}`);
    assert.is(recipe.heal, 'auto');
    assert.match(sentence, /with closed-form healing on/);
    assert.match(repeat!.text, /auto/);
    const alone = await run(chosen);
    assert.equal(auto.weights, alone.weights);
    // A method that always heals takes the choice too.
    if (chosen === 'o-proj') {
      const always = await run('auto', { method: 'refit-heal' });
      assert.equal(always.weights, auto.weights);
      assert.match(alone.report.sentence, /with closed-form healing of o_proj on/);
    }
  });
}

test('two texts leave none to judge by: both are healed, and the report says so', async () => {
  using place = await workplace();
  const texts = jsonl(
    place.path,
    ['one', 'two'].map(text => text.repeat(20)),
  );
  const asked = {
    method: 'plain',
    window: 2,
    heal: { closedForm: 'auto' },
    report: 'none' as const,
    device,
  } as const;
  const { fit, warnings } = await prune(place.model, place.out, options(texts, asked));
  assert.is(fit.healed, 'o_proj and down_proj');
  assert.is(fit.heldOutKlOfBoth, undefined);
  assert.match(warnings.join(), /too few calibration texts to hold any back/);
});

test('images cannot be asked which healing is nearer', async () => {
  using place = await workplace();
  const check = (closedForm: 'auto' | 'o-proj') =>
    checkPruneRequest(join(clip, 'plain'), undefined, {
      ...{ layers: 1, method: 'plain', window: 0, calibration: [place.calibration] },
      heal: { closedForm },
    });
  assert.match(await rejectsWith(() => check('auto'), 'INVALID_ARGUMENT'), /reads images/);
  await check('o-proj');
});

test.run();
