import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32, downloadU32, Scope, tensorFrom } from '../../engine/index.js';
import { vocabularyCases } from '../../kernels/cases/vocabulary.js';
import { compareDistributions } from '../../kernels/vocabulary/compareDistributions.js';
import { logLikelihood } from '../../kernels/vocabulary/logLikelihood.js';
import { normals } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases(vocabularyCases);

test('a model compared with itself: KL below 1e-6 and the same tokens', async () => {
  using scope = new Scope(device());
  const [tokens, depth, vocabulary] = [33, 48, 5001];
  const hidden = scope.own(
    tensorFrom(
      scope.device,
      normals(tokens * depth).map(x => 2 * x),
      [tokens, depth],
    ),
  );
  const head = scope.own(tensorFrom(scope.device, normals(vocabulary * depth, 2), [vocabulary, depth]));
  const targets = scope.own(tensorFrom(scope.device, new Uint32Array(tokens).fill(5)));
  const [nllA, nllB, kl] = [scope.tensor([tokens]), scope.tensor([tokens]), scope.tensor([tokens])];
  const [topA, topB] = [scope.tensor([tokens], 'u32'), scope.tensor([tokens], 'u32')];
  const model = { hidden, head };
  compareDistributions(scope.device.recorder, model, model, targets, { nllA, nllB, kl, topA, topB });
  for (const value of await downloadF32(kl)) assert.ok(Math.abs(value) < 1e-6, `KL ${value}`);
  assert.equal(await downloadF32(nllA), await downloadF32(nllB));
  assert.equal(await downloadU32(topA), await downloadU32(topB));
});

test('a target outside the vocabulary gives NaN, not a number', async () => {
  using scope = new Scope(device());
  const hidden = scope.own(tensorFrom(scope.device, normals(2 * 16), [2, 16]));
  const head = scope.own(tensorFrom(scope.device, normals(40 * 16, 2), [40, 16]));
  const targets = scope.own(tensorFrom(scope.device, Uint32Array.of(39, 40)));
  const out = scope.tensor([2]);
  logLikelihood(scope.device.recorder, hidden, head, targets, out);
  const [inside, outside] = await downloadF32(out);
  assert.ok(inside! < 0);
  assert.ok(Number.isNaN(outside));
});

test.run();
