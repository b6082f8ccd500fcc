import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32, Tensor, tensorFrom } from '../../engine/index.js';
import { matmul } from '../../kernels/matmul/matmul.js';
import { evaluate, generate, logits } from '../../model/index.js';
import { foldTransform } from '../../replaceme/fits/foldTransform.js';
import { fitLeastSquares, leastSquaresStatistics } from '../../replaceme/fits/leastSquares.js';
import { windowDistances } from '../../replaceme/index.js';
import { keptLayers } from '../../replaceme/run/window.js';
import { maxAbsError, relativeError } from '../gpu.js';
import { openPass } from '../replaceme/workplace.js';
import { readGolden, saySkipped } from '../support.js';
import { golden, openSmolLM2, readJson, smollm2 } from './smollm2Golden.js';

interface Window {
  i: number;
  n: number;
  ls: { residual_train: number; float32_activation_error: { T_relative: number; MT_relative: number } };
  evaluations: Record<string, Record<string, { perplexity: number; kl: number; top1: number }>>;
}

if (!smollm2 || !golden) {
  saySkipped('SmolLM2-135M against golden data: set RM_SMOLLM2 to its folder, shared/ beside the repository');
} else {
  const opened = await openSmolLM2();
  const { device, model, batches } = opened;
  test.after(opened.close);

  test('logits of two sequences', async () => {
    const { sequences } = readJson<{ sequences: { ids: number[]; mean_nll: number }[] }>('logits.json');
    const tensors = await readGolden(join(golden!, 'logits.safetensors'));
    for (const [s, { ids, mean_nll }] of sequences.entries()) {
      const found = (await logits(model, ids)).logits;
      const vocab = model.arch.vocab;
      const values = (name: string) => tensors.get(`s${s}.${name}`)!.values;
      assert.ok(maxAbsError(found.subarray(63 * vocab), values('last_logits')) < 2e-3, 'last position');
      const top = values('top_ids').map((id, at) => found[Math.floor(at / 32) * vocab + id]!);
      assert.ok(maxAbsError(top, values('top_values')) < 2e-3, 'the 32 largest of every position');
      const { nll } = await evaluate(model, [ids]);
      assert.ok(Math.abs(nll - mean_nll) < 1e-4, `nll ${nll} against ${mean_nll}`);
    }
  });

  test('greedy continuations', async () => {
    for (const { prompt_ids, ids } of readJson<{ greedy: { prompt_ids: number[]; ids: number[] }[] }>(
      'logits.json',
    ).greedy) {
      assert.equal(await generate(model, prompt_ids, { maxTokens: ids.length }), ids);
    }
  });

  test('mean cosine distances of all windows', async () => {
    const { distances } = readJson<{ distances: Record<string, { cosine: number[] }> }>('replaceme.json');
    const found = await windowDistances(model, batches, [4, 7]);
    for (const [c, n] of [4, 7].entries()) {
      const worst = maxAbsError(found[c]!, distances[`n=${n}`]!.cosine);
      assert.ok(worst < 1e-4, `n = ${n}: distance off by ${worst}`);
    }
  });

  test('ReplaceMe by least squares on window (11, 7): T, M T, perplexities', async () => {
    const reference = readJson<{ windows: Window[] }>('replaceme.json').windows[0]!;
    const window = { layer: reference.i, count: reference.n };
    using pass = await openPass(model, batches, window);
    using statistics = await leastSquaresStatistics(pass);
    const { transform, relativeResidual, solve } = await fitLeastSquares(device, statistics, 0);
    const expected = (await readGolden(join(golden!, 'replaceme-T-i11-n7.safetensors'))).get('T')!.values;
    const tError = relativeError(await downloadF32(transform), expected);
    const bound = reference.ls.float32_activation_error;
    console.log(
      `T relative error ${tError.toExponential(2)} (bound ${(2 * bound.T_relative).toExponential(2)})`,
      solve,
    );
    assert.ok(tError <= 2 * bound.T_relative, `T off by ${tError}`);
    assert.ok(
      Math.abs(relativeResidual / reference.ls.residual_train - 1) < 1e-3,
      `residual ${relativeResidual}`,
    );

    // |M (T - T*)|_F / |M T*|_F over the calibration tokens, by the Gram matrix.
    const gramNorm = async (values: Float32Array) => {
      using t = tensorFrom(device, values, [576, 576]);
      using product = Tensor.create(device, [576, 576]);
      matmul(device.recorder, statistics.gram.hi, t, product);
      const gt = await downloadF32(product);
      return Math.sqrt(values.reduce((sum, value, i) => sum + value * gt[i]!, 0));
    };
    const difference = Float32Array.from(await downloadF32(transform), (value, i) => value - expected[i]!);
    const mtError = (await gramNorm(difference)) / (await gramNorm(Float32Array.from(expected)));
    assert.ok(mtError <= 2 * bound.MT_relative, `M T off by ${mtError}`);

    using _ = transform;
    const layers = new Map([[window.layer, await foldTransform(model, window.layer, transform)]]);
    // In f32: the golden merged weights are not rounded to the checkpoint's dtype.
    const kept = keptLayers([window], 30);
    const pruned = model.withLayers(kept, { layers });
    const plain = model.withLayers(kept);
    const near = (found: number, expected: number, what: string) =>
      assert.ok(Math.abs(found / expected - 1) < 5e-3, `${what}: ${found}, expected ${expected}`);
    for (const set of ['eval_chat', 'eval_wt2']) {
      const expected = reference.evaluations.ls![set]!;
      const found = await opened.evaluate(pruned, set);
      near(found.perplexity, expected.perplexity, `${set} perplexity`);
      near(found.kl, expected.kl, `${set} KL`);
      assert.ok(Math.abs(found.top1 - expected.top1) < 5e-3, `${set} top-1`);
    }
    const found = await opened.evaluate(plain, 'eval_chat');
    near(found.perplexity, reference.evaluations.plain!.eval_chat!.perplexity, 'plain removal, perplexity');
  });
}

test.run();
