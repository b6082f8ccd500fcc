import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { downloadF64 } from '../../kernels/shared/doubleSingle.js';
import { evaluate, logits, Model } from '../../model/index.js';
import { PrunedModel } from '../../replaceme/activations/prunedModel.js';
import { fitLeastSquares, leastSquaresStatistics } from '../../replaceme/fits/leastSquares.js';
import { windowDistances } from '../../replaceme/index.js';
import { refit } from '../../replaceme/methods/refit.js';
import { replacemeLs } from '../../replaceme/methods/replacemeLs.js';
import { maxAbsError, relativeError } from '../gpu.js';
import { openPass, plainBatches, repairContext } from '../replaceme/workplace.js';
import { readGolden, saySkipped, sharedPath } from '../support.js';

const folder = sharedPath('golden', 'families', 'llama');

interface Golden {
  i: number;
  n: number;
  fit_sequences: number;
  cosine_distance: number;
  ls: { c: number; residual_train: number };
  refit: { lambda: number };
}

if (!folder) {
  saySkipped('the small complete ReplaceMe case: no shared folder');
} else {
  test('window (1, 2) of the tiny Llama: distance, G, C, T, down_proj and logits of the f64 reference', async () => {
    const golden = JSON.parse(readFileSync(join(folder, 'replaceme.json'), 'utf8')) as Golden;
    const tensors = await readGolden(join(folder, 'replaceme.safetensors'));
    const values = (name: string) => tensors.get(name)!.values;
    const sequences = Array.from({ length: 20 }, (_, s) => [...values('ids').subarray(64 * s, 64 * s + 64)]);
    const batches = plainBatches(sequences.slice(0, golden.fit_sequences), 300);
    const window = { layer: golden.i, count: golden.n };

    await using device = await Device.open();
    using model = await Model.load(device, folder);
    await logits(model, [1]); // The rotation table stays.
    const before = device.memory.liveBytes;

    const [, distances] = await windowDistances(model, batches, [1, window.count]);
    assert.ok(Math.abs(distances![window.layer]! - golden.cosine_distance) < 1e-6, 'distance');

    const pass = await openPass(model, batches, window);
    const statistics = await leastSquaresStatistics(pass);
    pass[Symbol.dispose]();
    const gram = await downloadF64(statistics.gram);
    assert.ok(relativeError(gram, values('ls.G')) < 2e-6, 'G within float32 activations');
    // The reference's C is Mᵀ(L_j - Y_i); ours is Mᵀ(L_j - L_i) = that minus G.
    const cross = (await downloadF64(statistics.cross)).map((value, i) => value + gram[i]!);
    assert.ok(relativeError(cross, values('ls.C')) < 2e-6, 'C within float32 activations');

    const fit = await fitLeastSquares(device, statistics, 0);
    assert.ok(relativeError(await downloadF32(fit.transform), values('ls.T')) < 1e-5, 'T');
    assert.ok(Math.abs(fit.relativeResidual / golden.ls.residual_train - 1) < 1e-5, 'residual');
    fit.transform.dispose();
    statistics[Symbol.dispose]();

    const { changes } = await replacemeLs.repair(repairContext(model, batches), [window]);
    const { down } = changes.layers!.get(window.layer)!;
    assert.ok(relativeError(await downloadF32(down!), values('ls.down_proj')) < 1e-5, 'down_proj');
    const pruned = new PrunedModel(model, [window], changes);
    const found = await logits(pruned.model, sequences[golden.fit_sequences]!);
    assert.ok(maxAbsError(found.logits, values('ls.logits_of_first_held')) < 2e-4, 'logits');

    // The float32 model that holds Delta in down_proj, so that nothing is rounded away.
    const refitted = await refit.repair(
      repairContext(model, batches, { ridge: golden.refit.lambda, attentionStep: 0 }),
      [window],
    );
    const moved = refitted.changes.layers!.get(window.layer)!.down!;
    assert.ok(
      relativeError(await downloadF32(moved), values('refit.down_proj')) < 2e-5,
      'down_proj, refitted',
    );
    moved.dispose();

    const same = await evaluate(model, sequences.slice(0, 2), { against: model });
    assert.ok(same.kl! < 1e-6 && same.top1 === 1, 'a model agrees with itself');
    pruned[Symbol.dispose]();
    assert.is(device.memory.liveBytes, before, 'nothing leaks');
  });
}

test.run();
