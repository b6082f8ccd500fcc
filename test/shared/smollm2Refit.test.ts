import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import { refit } from '../../replaceme/methods/refit.js';
import { repairContext } from '../replaceme/workplace.js';
import { saySkipped } from '../support.js';
import { golden, openSmolLM2, readJson, smollm2 } from './smollm2Golden.js';

type Evaluations = Record<string, { perplexity: number; kl: number; top1: number }>;
interface Golden {
  windows: { i: number; n: number; evaluations: Record<string, Evaluations> }[];
  two_spans: Evaluations & { spans: { i: number; n: number; token_residual_train: number }[] };
}

if (!smollm2 || !golden) {
  saySkipped('refits of SmolLM2-135M against golden data: set RM_SMOLLM2 to its folder');
} else {
  const { windows, two_spans } = readJson<Golden>('replaceme.json');
  const opened = await openSmolLM2();
  const { model, batches } = opened;
  test.after(opened.close);

  /** The reference keeps its merged weights in f32, ours are rounded to bf16 like any checkpoint of this model. */
  const near = (found: number, expected: number, what: string) =>
    assert.ok(Math.abs(found / expected - 1) < 5e-3, `${what}: ${found}, expected ${expected}`);

  const check = async (spans: readonly { i: number; n: number }[], expected: Evaluations, sets: string[]) => {
    const removed = spans.map(({ i, n }) => ({ layer: i, count: n }));
    const context = repairContext(model, batches, { ridge: 0.1, attentionStep: 0 });
    const { changes, details } = await refit.repair(context, removed);
    using pruned = new PrunedModel(model, removed, changes);
    for (const set of sets) {
      const found = await opened.evaluate(pruned.model, set);
      near(found.perplexity, expected[set]!.perplexity, `${set} perplexity`);
      near(found.kl, expected[set]!.kl, `${set} KL`);
      assert.ok(Math.abs(found.top1 - expected[set]!.top1) < 5e-3, `${set} top-1`);
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
