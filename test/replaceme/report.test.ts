import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, sealed, tensorFrom } from '../../engine/index.js';
import { evaluate, loadTokenizer, Model } from '../../model/index.js';
import { Batch } from '../../model/transformer/batch.js';
import { forward } from '../../model/transformer/transformer.js';
import { layerDamage } from '../../replaceme/evaluation/layerDamage.js';
import { PositionLosses } from '../../replaceme/evaluation/positionLoss.js';
import { findSinks } from '../../replaceme/fits/attentionSinks.js';
import { RidgeStatistics } from '../../replaceme/fits/ridgeStatistics.js';
import { compare, type PruneOptions, type PruneReport, prune, type Report } from '../../replaceme/index.js';
import { repeatOf } from '../../replaceme/report/repeat.js';
import { normals } from '../gpu.js';
import { compareFixture, evalFixture, healFixture, pruneFixture } from './reportFixture.js';
import { calibrationText, options, workplace } from './workplace.js';

const schema = JSON.parse(readFileSync(new URL('../../../docs/report.schema.json', import.meta.url), 'utf8'));
const ajv = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).addSchema(schema, 'report');
const kinds = { prune: 'PruneReport', heal: 'HealReport', compare: 'CompareReport', eval: 'EvalReport' };
const valid = ajv.getSchema('report')!;

/** Of the schema of its kind, which tells more of what is wrong than that of all kinds. */
const conforms = (report: Report): void => {
  const value = JSON.parse(JSON.stringify(report));
  const ofKind = ajv.getSchema(`report#/$defs/${kinds[report.kind]}`)!;
  assert.ok(ofKind(value), JSON.stringify(ofKind.errors, null, 1));
  assert.ok(valid(value));
};

const read = (folder: string): PruneReport => JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8'));

const refit = (calibration: string, more: PruneOptions = {}): PruneOptions =>
  options(calibration, { method: 'refit-heal', ...more });

test('every kind of report is as docs/report.schema.json says, which lets nothing else in', () => {
  for (const report of [pruneFixture, healFixture, compareFixture, evalFixture]) conforms(report);
  assert.not(valid({ ...evalFixture, more: 1 }));
  assert.not(valid({ ...evalFixture, schema: 'rm-engine-report/1' }));
  const { seconds: _, ...incomplete } = evalFixture;
  assert.not(valid(incomplete));
});

test('prune writes a report with everything that was measured', async () => {
  using place = await workplace();
  await using device = await Device.open();
  const report = await prune(place.model, place.out, { ...refit(place.calibration), device });
  const written = read(place.out);
  conforms(written);
  assert.not.ok(readFileSync(join(place.out, 'report.json'), 'utf8').includes(place.path), 'no paths');
  assert.ok(readFileSync(join(place.out, 'report.html'), 'utf8').includes(report.sentence));
  assert.is(written.sentence, report.sentence);
  assert.match(
    report.sentence,
    /^Removed layers? .* of the 6 of model by refit-heal with closed-form healing on 1024 calibration tokens: /,
  );

  const { models, texts, damageByLayer, samples } = report.evaluation!;
  assert.equal(
    models.map(({ role, layers }) => [role, layers]),
    [
      ['dense', 6],
      ['plain', 4],
      ['result', 4],
    ],
  );
  assert.is(texts[0]!.origin, 'held-out calibration');
  for (const { lossByPosition, eval: scores } of models) {
    const predictions = lossByPosition.reduce((sum, at) => sum + at.predictions, 0);
    assert.is(predictions, texts[0]!.tokens - texts[0]!.sequences);
    const total = lossByPosition.reduce((sum, at) => sum + at.nll * at.predictions, 0);
    assert.ok(Math.abs(Math.log(scores[0]!.ppl) - total / predictions) < 1e-9);
  }
  assert.equal(
    damageByLayer!.series.map(({ stage }) => stage),
    ['plain', 'fit', 'healed'],
  );
  assert.equal(
    samples.map(({ continuations }) => continuations.map(({ model }) => model)),
    samples.map(() => ['dense', 'plain', 'result']),
  );
  assert.is(models[0]!.bytes - models[2]!.bytes, 2 * (models[0]!.parameters - models[2]!.parameters), 'bf16');

  const { candidates, windows } = report.selection;
  assert.equal(candidates![0]!.windows, windows);
  for (const { layer, count, cosine } of report.windowMap!.windows) {
    assert.ok(layer + count < 6 && count <= 2 && cosine >= 0);
  }
  for (const { points, chosen } of report.ridgePaths) {
    const best = [...points].sort((a, b) => a.heldOut - b.heldOut)[0]!;
    assert.is(chosen, best.heldOut < 1 ? best.ridge : undefined);
  }
  const fit = report.ridgePaths.find(
    ({ purpose, projection }) => purpose === 'fit' && projection === 'down',
  )!;
  const held = fit.points.find(({ ridge }) => ridge === fit.chosen)?.heldOut;
  if (windows.length === 1) assert.is(report.fit.heldOutResidual, held);

  const names = report.phases.map(({ name }) => name);
  assert.equal(names, ['calibrate', 'load', 'select', 'fit', 'heal', 'evaluate', 'write', 'verify']);
  const together = report.phases.reduce((sum, { seconds }) => sum + seconds, 0);
  assert.ok(together <= report.seconds);
  assert.is(Math.max(...report.phases.map(({ peakBytes }) => peakBytes)), report.peakMemoryBytes);
  assert.ok(report.plan!.memory.total > 0);
});

test('the same run twice gives the same report, but for times', async () => {
  using place = await workplace();
  const timeless = (report: PruneReport & { sha256?: string }) => {
    const { date, seconds, phases, plan, extent, evaluation, sha256, ...rest } = report;
    const models = evaluation!.models.map(({ tokensPerSecond, ...measures }) => measures);
    return {
      ...rest,
      plan: plan!.memory,
      phases: phases.map(({ name }) => name),
      evaluation: { ...evaluation, models },
    };
  };
  await using device = await Device.open();
  const again = async () => {
    await prune(place.model, place.out, { ...refit(place.calibration), force: true, device });
    const { peakMemoryBytes, ...report } = timeless(read(place.out));
    return report;
  };
  assert.equal(await again(), await again());
});

test('without a report nothing is measured, and report.json holds the recipe', async () => {
  using place = await workplace();
  const report = await prune(place.model, place.out, options(place.calibration, { report: 'none' }));
  assert.is(report.evaluation, undefined);
  const written = read(place.out);
  conforms(written);
  assert.is(written.summary, report.summary);
  assert.throws(() => readFileSync(join(place.out, 'report.html')), /ENOENT/);
});

test('plain removal is the result: no third model, one series', async () => {
  using place = await workplace();
  const report = await prune(place.model, place.out, {
    ...{ remove: [2, 3], method: 'plain', calibration: [place.calibration], sequenceLength: 64 },
    evaluation: [place.calibration],
    evaluationTokens: 300,
    report: 'full',
  });
  conforms(read(place.out));
  const { models, texts, damageByLayer } = report.evaluation!;
  assert.equal(
    models.map(({ role }) => role),
    ['dense', 'result'],
  );
  assert.equal([texts[0]!.origin, texts[0]!.tokens], ['given', 300]);
  assert.equal(
    damageByLayer!.series.map(({ stage }) => stage),
    ['plain'],
  );
  assert.equal(
    damageByLayer!.series[0]!.layers.map(({ layer }) => layer),
    [0, 3, 4, 5],
  );
  assert.is(damageByLayer!.series[0]!.layers[0]!.ordinary, 0);
});

test('compare writes a report of all rows', async () => {
  using place = await workplace();
  const report = await compare(place.model, {
    ...{ layers: [1], methods: ['plain', 'refit'], calibration: [place.calibration], out: place.out },
    ...{ evaluation: [place.calibration], evaluationTokens: 300, sequenceLength: 64, tokens: 1024 },
  });
  const written = JSON.parse(readFileSync(join(place.out, 'report.json'), 'utf8'));
  conforms(written);
  assert.equal(written, JSON.parse(JSON.stringify(sealed(report))));
  assert.match(readFileSync(join(place.out, 'report.html'), 'utf8'), report.sentence);
  for (const row of report.rows) {
    assert.is('refused' in row ? row.refused : row.damageByLayer!.length, 5);
  }
  assert.equal(
    report.samples!.map(({ continuations }) => continuations.map(({ model }) => model)),
    report.samples!.map(() => ['dense', 'plain, 1 removed', 'refit, 1 removed']),
  );
  assert.ok(report.windowMap!.windows.some(({ residual }) => residual !== undefined));
});

test('loss by position adds up to the whole, in buckets of powers of two', async () => {
  using place = await workplace();
  await using device = await Device.open();
  using model = await Model.load(device, place.model);
  const ids = await (await loadTokenizer(place.model)).encode(calibrationText);
  const sequences = [ids.slice(0, 70), ids.slice(70, 71), ids.slice(100, 117)];
  const positions = new PositionLosses();
  const { nll, predictions } = await evaluate(model, sequences, { onLosses: positions.add });
  const buckets = positions.losses;
  assert.equal(
    buckets.map(({ from, to, predictions: count }) => [from, to, count]),
    [
      [0, 0, 2],
      [1, 1, 2],
      [2, 3, 4],
      [4, 7, 8],
      [8, 15, 16],
      [16, 31, 16],
      [32, 63, 32],
      [64, 127, 5],
    ],
  );
  const total = buckets.reduce((sum, bucket) => sum + bucket.nll * bucket.predictions, 0);
  assert.ok(Math.abs(total / predictions - nll) < 1e-12);
});

test('damage by layer is that of hidden states in f64, and none of an identical model', async () => {
  using place = await workplace();
  await using device = await Device.open();
  using model = await Model.load(device, place.model);
  const ids = await (await loadTokenizer(place.model)).encode(calibrationText);
  const sequences = [ids.slice(0, 50), ids.slice(50, 90)];
  const keep = [0, 3, 4, 5];
  const pruned = model.withLayers(keep);
  const damage = await layerDamage(model, [pruned], keep, sequences, { batchTokens: 256 });
  using batch = new Batch(device, sequences);
  const states = async (of: Model) => {
    const outputs: Promise<Float32Array>[] = [];
    for (let layers = 1; layers <= of.arch.layers; layers++) {
      using state = forward(of, batch, { to: layers });
      outputs.push(Promise.resolve(await downloadF32(state)));
    }
    return Promise.all(outputs);
  };
  const [dense, cut] = [await states(model), await states(pruned)];
  const { hidden } = model.arch;
  for (const [k, depth] of [2, 3, 4, 5].entries()) {
    const rows = Array.from({ length: batch.tokens }, (_, t) => {
      let [error, norm] = [0, 0];
      for (let c = 0; c < hidden; c++) {
        const target = dense[depth]![t * hidden + c]!;
        error += (cut[k]![t * hidden + c]! - target) ** 2;
        norm += target ** 2;
      }
      return { share: error / norm, norm: Math.sqrt(norm) };
    });
    const sinks = findSinks(
      Float32Array.from(rows, ({ norm }) => norm),
      sequences,
    );
    const mean = (sink: boolean) => {
      const of = rows.filter((_, t) => sinks[t] === sink);
      return of.reduce((sum, { share }) => sum + share, 0) / of.length;
    };
    const point = damage.models[0]![k]!;
    assert.is(point.layer, depth);
    assert.ok(Math.abs(point.ordinary / mean(false) - 1) < 1e-4, `${point.ordinary} ${mean(false)}`);
    assert.ok(Math.abs(point.sinks! / mean(true) - 1) < 1e-4);
  }
  const all = [0, 1, 2, 3, 4, 5];
  const same = await layerDamage(model, [model.withLayers(all)], all, sequences, { batchTokens: 64 });
  assert.equal(
    same.models[0],
    all.map(layer => ({ layer, ordinary: 0, sinks: 0 })),
  );
  assert.is(same.tokens, 90);
});

test('ridges that were tried are kept, the refused ones too', async () => {
  await using device = await Device.open();
  const statistics = new RidgeStatistics(device, 8, 4);
  for (const half of [0, 1] as const) {
    using features = tensorFrom(device, normals(64 * 8, 10 + half), [64, 8]);
    using noise = tensorFrom(device, normals(64 * 4, 20 + half), [64, 4]);
    using roots = tensorFrom(device, new Float32Array(64).fill(1));
    await statistics.add(half, features, noise, roots);
  }
  // The targets have nothing to do with the features.
  assert.is(await statistics.solve(), undefined);
  assert.equal(
    statistics.points.map(({ ridge }) => ridge),
    [3, 1, 0.3, 0.1, 0.03],
  );
  for (const { heldOut } of statistics.points) assert.ok(heldOut > 1);
  statistics[Symbol.dispose]();
});

test('the command to repeat is what a shell reads back; a published one names no folders', () => {
  const command = [
    'rm-engine',
    'prune',
    '/a b/model',
    "it's",
    '--calib',
    '../x/$HOME.txt',
    '--out=/p/q',
    '*',
    '',
  ];
  const { kind, text } = repeatOf('prune', [], { command });
  assert.is(kind, 'command');
  const words = execFileSync('sh', ['-c', `for word in ${text}; do printf '%s\\n' "$word"; done`], {
    encoding: 'utf8',
  });
  assert.equal(words.split('\n').slice(0, -1), command);
  assert.is(
    repeatOf('prune', [], { command }, { published: true }).text,
    `rm-engine prune model 'it'\\''s' --calib '$HOME.txt' --out=q '*' ''`,
  );
  const call = repeatOf('prune', ['in/model', 'out'], { layers: 2, signal: 1 } as object, {
    published: true,
  });
  assert.equal(call, { kind: 'call', text: 'await prune("model", "out", {"layers":2})' });
});

test.run();
