import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32 } from '../../engine/index.js';
import { fitCosine } from '../../replaceme/fits/cosineFit.js';
import type { FitPass } from '../../replaceme/fits/fitPass.js';
import { foldTransform } from '../../replaceme/fits/foldTransform.js';
import { type CosineSettings, cosineSettings } from '../../replaceme/options/pruneOptions.js';
import { keptLayers } from '../../replaceme/run/window.js';
import { openPass } from '../replaceme/workplace.js';
import { saySkipped } from '../support.js';
import { golden, openSmolLM2, readJson, smollm2 } from './smollm2Golden.js';

const sets = ['eval_chat', 'eval_wt2'] as const;
type EvaluationSet = (typeof sets)[number];
const measures = ['perplexity', 'kl', 'top1'] as const;
type Evaluations<T> = Record<EvaluationSet, Record<(typeof measures)[number], T>>;
type Losses<T> = Record<'train_before' | 'train_after', T>;

interface Golden {
  i: number;
  n: number;
  evaluations: Record<
    `cosine eq${7 | 8}, in order`,
    Evaluations<number> & { loss: Losses<number>; T_minus_I_frobenius: number }
  > &
    Record<`cosine eq${7 | 8}`, { band: Evaluations<[number, number]>; loss: Losses<[number, number]> }>;
}

if (!smollm2 || !golden) {
  saySkipped(
    'cosine fits of SmolLM2-135M against golden data: set RM_SMOLLM2 to its folder, shared/ beside the repository',
  );
} else {
  const opened = await openSmolLM2();
  const { model, batches } = opened;
  const references = readJson<{ windows: Golden[] }>('replaceme.json').windows;
  test.after(opened.close);

  /** Losses, |T - I|_F and what the pruned model is worth on some sets, all in f32 as in the reference. */
  async function fitted(pass: FitPass, { i, n }: Golden, change: Partial<CosineSettings>) {
    const { transform, ...losses } = await fitCosine(pass, cosineSettings(change));
    using _ = transform;
    const values = await downloadF32(transform);
    const { hidden } = model.arch;
    const distance = Math.sqrt(
      values.reduce((sum, value, at) => sum + (value - (at % (hidden + 1) === 0 ? 1 : 0)) ** 2, 0),
    );
    const folded = await foldTransform(model, i, transform);
    using _down = folded.down;
    const layers = new Map([[i, folded]]);
    const pruned = model.withLayers(keptLayers([{ layer: i, count: n }], model.arch.layers), { layers });
    const found: Partial<Evaluations<number>> = {};
    for (const set of sets) found[set] = await opened.evaluate(pruned, set);
    return { ...losses, distance, evaluations: found as Evaluations<number> };
  }

  const within = (found: number, [least, most]: readonly [number, number], what: string) =>
    assert.ok(found >= least && found <= most, `${what}: ${found}, expected ${least} to ${most}`);
  const near = (found: number, expected: number, share: number, what: string) =>
    within(found, [expected * (1 - share), expected * (1 + share)], what);

  for (const reference of references) {
    const { i, n } = reference;
    test(`cosine fits on window (${i}, ${n})`, async () => {
      using pass = await openPass(model, batches, { layer: i, count: n });
      // One window in order, the other with shuffling.
      for (const equation of [7, 8] as const) {
        if (n > 4) {
          const expected = reference.evaluations[`cosine eq${equation}, in order`];
          const found = await fitted(pass, reference, { equation, shuffle: false });
          near(found.lossBefore, expected.loss.train_before, 1e-5, 'loss of plain removal');
          near(found.lossAfter, expected.loss.train_after, 1e-4, 'loss');
          near(found.distance, expected.T_minus_I_frobenius, 1e-3, '|T - I|');
          for (const set of sets) {
            for (const measure of ['perplexity', 'kl'] as const)
              near(found.evaluations[set][measure], expected[set][measure], 1e-2, `${set} ${measure}`);
            const top1 = expected[set].top1;
            within(found.evaluations[set].top1, [top1 - 5e-3, top1 + 5e-3], `${set} top-1`);
          }
          continue;
        }
        // Within the reference's band of three seeds, as golden/README.md widens it.
        const { band, loss } = reference.evaluations[`cosine eq${equation}`];
        const found = await fitted(pass, reference, { equation });
        const inBand = (value: number, [least, most]: [number, number], what: string) => {
          const width = most - least;
          within(value, [(least - 2 * width) * 0.99, (most + 2 * width) * 1.01], what);
        };
        inBand(found.lossAfter, loss.train_after, 'loss, shuffled');
        for (const set of sets)
          for (const measure of measures)
            inBand(found.evaluations[set][measure], band[set][measure], `${set} ${measure}, shuffled`);
      }
    });
  }
}

test.run();
