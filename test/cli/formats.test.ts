import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatEvaluations } from '../../cli/eval/texts.js';
import { logitsTensors } from '../../cli/logits.js';
import { formatPlan } from '../../cli/prune/formatPlan.js';
import { formatCandidates, formatDetails } from '../../cli/prune/formatReport.js';
import { asF32 } from '../../engine/dtype.js';
import { REPORT_SCHEMA } from '../../replaceme/index.js';
import { chooseExtent } from '../../replaceme/run/reportExtent.js';

test('eval: one line per file, more columns with --against', () => {
  const plain = { file: 'a.txt', tokens: 512, predictions: 511, nll: Math.log(20), perplexity: 20 };
  assert.is(formatEvaluations([plain]), 'file   tokens  perplexity\na.txt     512     20.0000\n');
  const text = formatEvaluations([{ ...plain, againstPerplexity: 15, kl: 0.25, top1: 0.5 }]);
  assert.equal(text.split('\n')[1]!.split(/ {2,}/), [
    'a.txt',
    '512',
    '20.0000',
    '15.0000',
    '0.2500',
    '50.00 %',
  ]);
});

const adapter = {
  ...{ description: 'llvmpipe', vendor: 'mesa', architecture: '', device: '', kind: 'software' as const },
  ...{ subgroupMinSize: 8, subgroupMaxSize: 8, subgroupMatrixConfigs: [] },
};

test('prune: the report and the plan as text', () => {
  const report = formatDetails({
    summary: 'keep 1, remove 2..3 (2 of 5 layers)',
    recipe: { alpha: 0, heal: false, tokens: 100, sequenceLength: 50, batchTokens: 50 },
    ...{ method: 'replaceme-ls', source: 'a paper', adapter, peakMemoryBytes: 2 ** 20, seconds: 75 },
    ...{
      schema: REPORT_SCHEMA,
      kind: 'prune',
      sentence: 'Removed two.',
      version: 'rm-engine 1',
      node: 'v20',
    },
    ...{ repeat: { kind: 'command', text: 'rm-engine prune' }, date: '2026-01-01T00:00:00.000Z' },
    ...{ phases: [], ridgePaths: [] },
    model: { path: 'in', fingerprint: 'f', layers: 5 },
    output: { path: 'out', layers: 3, keptLayers: [0, 1, 4] },
    selection: {
      windows: [{ layer: 1, count: 2 }],
      by: 'mean cosine distance',
      distances: [0.5, 0.125, 0.25],
    },
    calibration: { tokens: 1000, sequences: 10, files: [] },
    fit: {
      ...{ relativeResidual: 0.123456, solverIterations: 3, solver: 'refinement' },
      healingRidges: Array.from({ length: 9 }, (_, layer) => `${layer}: 0.3/kept`).join(', '),
    },
    extent: chooseExtent('none', undefined),
    warnings: [],
    verification: { tokens: 64, maxLogitDifference: 0 },
  });
  assert.match(report, /^chosen by +mean cosine distance \(0\.1250\)$/m);
  assert.match(report, /^ {2}error left +0\.1235$/m);
  assert.match(report, /^ {2}refinements of the solution +3$/m);
  assert.match(
    report,
    /^ {2}ridges after the cut, o_proj\/down_proj +0: 0\.3\/kept, 1: .*,\n +5: 0\.3\/kept, .*8: 0\.3\/kept$/m,
    'wrapped',
  );
  assert.match(
    report,
    /^verified +what was written loaded again, logits differ by 0 at most \(64 tokens\)$/m,
  );
  const plan = formatPlan({
    ...{
      summary: 'remove 2 of 5 layers',
      method: 'plain',
      tokens: 100,
      generated: 30,
      batchTokens: 50,
      adapter: 'llvmpipe',
    },
    memory: {
      ...{
        weights: 1024,
        activations: 2048,
        statistics: 256,
        layerInputs: 256,
        hiddenStates: 0,
        total: 3584,
      },
      ...{ selectionSpare: 0, evaluationSpare: 0, host: 5120, staging: 96 * 2 ** 20, disk: 3 * 2 ** 30 },
    },
    placement: { weights: 'streamed', states: { place: 'host', dtype: 'bf16', keepsInner: false } },
    notes: ['the layers are streamed'],
    corrected: true,
    report: chooseExtent(undefined, { rest: 30, full: 30, light: 5 }),
    phases: [
      { name: 'load', bytes: 1536, flops: 0, seconds: 30 },
      { name: 'fit', bytes: 1024, flops: 2.5e12, seconds: 45 },
    ],
    rates: {
      layerGflops: 12.345,
      singleGflops: 1,
      uploadGigabytes: 8,
      layerMeasured: true,
      uploadMeasured: false,
      diskGigabytes: 1,
    },
  });
  assert.match(plan, /^device memory +about 3\.50 KiB$/m);
  assert.match(plan, /^ {2}weights +1\.00 KiB \(layer by layer, the next one on its way\)$/m);
  assert.match(plan, /^ {2}streams +hidden states of all tokens wait in host memory as bf16$/m);
  assert.match(plan, /^host memory +96\.0 MiB, besides the program$/m);
  assert.match(plan, /^disk +3\.00 GiB beside the output until it is written/m);
  assert.match(plan, /^time +about 1 min 15 s$/m);
  assert.match(plan, /^ {2}load +30 s, reads 1\.50 KiB$/m);
  assert.match(plan, /^ {2}fit +45 s, reads 1\.00 KiB, 2\.50 TFLOP$/m);
  assert.match(
    plan,
    /^rates .*upload 8\.00 GB\/s, assumed \(.*disk 1 GB\/s, assumed; times corrected by an earlier run of this kind$/m,
  );
  assert.match(plan, /^note +the layers are streamed$/m);
  assert.match(plan, /^ {2}text +30 tokens that the model writes/m);
  assert.match(plan, /12\.3 GFLOP\/s/);
});

test('logits: names, shapes, and one computation for all tensors of a sequence', async () => {
  let computed = 0;
  const compute = async () => {
    computed++;
    return {
      logits: Float32Array.of(1, 2, 3, 4, 5, 6),
      hidden: {
        embedding: Float32Array.of(10, 11, 12, 13),
        layers: [Float32Array.of(20, 21, 22, 23), Float32Array.of(30, 31, 32, 33)],
        finalNorm: Float32Array.of(40, 41, 42, 43),
      },
    };
  };
  const dimensions = { vocab: 3, hidden: 2, layers: 2 };
  const tensors = logitsTensors(1, 2, dimensions, true, compute);
  assert.equal(
    tensors.map(({ name, dtype, shape }) => [name, dtype, shape]),
    [
      ['s1.logits', 'f32', [2, 3]],
      ['s1.hidden.embedding', 'f32', [2, 2]],
      ['s1.hidden.layer.0', 'f32', [2, 2]],
      ['s1.hidden.layer.1', 'f32', [2, 2]],
      ['s1.hidden.final_norm', 'f32', [2, 2]],
    ],
  );
  assert.is(computed, 0, 'nothing is computed before it is asked for');
  const firsts: number[] = [];
  for (const { bytes } of tensors) firsts.push(asF32((await bytes()) as Uint8Array)[0]!);
  assert.equal(firsts, [1, 10, 20, 30, 40]);
  assert.is(computed, 1);
  assert.equal(
    logitsTensors(0, 2, dimensions, false, compute).map(({ name }) => name),
    ['s0.logits'],
  );
});

test('prune --verbose: the candidates, best first', () => {
  const scores = { cosine: 0.125, residual: 0.0625, kl: 0.75, nll: 2.5, tokens: 256 };
  const two = [
    { layer: 2, count: 3 },
    { layer: 11, count: 4 },
  ];
  const text = formatCandidates([
    { ...scores, windows: two, tokens: 1024, healed: true },
    { ...scores, windows: [{ layer: 11, count: 7 }], healed: false },
  ]);
  assert.is(
    text,
    'candidate         cosine  residual      KL     nll  tokens\n' +
      '(2, 3) + (11, 4)  0.1250    0.0625  0.7500  2.5000    1024  healed\n' +
      '(11, 7)           0.1250    0.0625  0.7500  2.5000     256\n',
  );
});

test.run();
