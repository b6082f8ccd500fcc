import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { evaluate, Model } from '../../model/index.js';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import { refit } from '../../replaceme/methods/refit.js';
import { plainBatches, repairContext } from '../replaceme/workplace.js';
import { saySkipped, sharedPath } from '../support.js';

const folder = process.env.RM_SMOLLM2;
const golden = sharedPath('golden', 'smollm2');

type Evaluations = Record<string, { perplexity: number; kl: number; top1: number }>;
interface Golden {
  windows: { i: number; n: number; evaluations: Record<string, Evaluations> }[];
  two_spans: Evaluations & { spans: { i: number; n: number; token_residual_train: number }[] };
}

if (!folder || !golden) {
  saySkipped('refits of SmolLM2-135M against golden data: set RM_SMOLLM2 to its folder');
} else {
  const readJson = <T>(name: string) => JSON.parse(readFileSync(join(golden, name), 'utf8')) as T;
  const { windows, two_spans } = readJson<Golden>('replaceme.json');
  const tokens = readJson<Record<string, number[][]>>('tokens.json');
  const device = await Device.open();
  const model = await Model.load(device, folder);
  test.after(async () => {
    model.dispose();
    await device.close();
  });

  /** The reference keeps its merged weights in f32, ours are rounded to bf16 like any checkpoint of this model. */
  const near = (found: number, expected: number, what: string) =>
    assert.ok(Math.abs(found / expected - 1) < 5e-3, `${what}: ${found}, expected ${expected}`);

  const check = async (spans: readonly { i: number; n: number }[], expected: Evaluations, sets: string[]) => {
    const removed = spans.map(({ i, n }) => ({ layer: i, count: n }));
    const context = repairContext(model, plainBatches(tokens.fit!, 1024), { ridge: 0.1, attentionStep: 0 });
    const { changes, details } = await refit.repair(context, removed);
    using pruned = new PrunedModel(model, removed, changes);
    for (const set of sets) {
      const found = await evaluate(pruned.model, tokens[set]!, { against: model });
      near(found.perplexity, expected[set]!.perplexity, `${set} perplexity`);
      near(found.kl!, expected[set]!.kl, `${set} KL`);
      assert.ok(Math.abs(found.top1! - expected[set]!.top1) < 5e-3, `${set} top-1`);
    }
    return details;
  };

  test('refit of window (11, 7) with ridge 0.1', async () => {
    const { i, n, evaluations } = windows[0]!;
    await check([{ i, n }], evaluations['refit lambda=0.1']!, ['eval_chat', 'eval_wt2']);
  });

  test('two windows: the second refit sees the model pruned by the first', async () => {
    const { spans, ...expected } = two_spans;
    const details = await check(spans, expected as Evaluations, ['eval_chat']);
    for (const { i, token_residual_train } of spans) {
      const [ordinary, sinks] = [details[`${i}: tokenResidual`], details[`${i}: sinkResidual`]] as number[];
      // One token of a sequence of 256 is a sink.
      near((255 * ordinary! + sinks!) / 256, token_residual_train, `token residual of layer ${i}`);
    }
  });
}

test.run();
