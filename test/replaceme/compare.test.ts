import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, RmError, sealed } from '../../engine/index.js';
import { expectedTensors } from '../../model/architecture/architecture.js';
import { evaluate, loadTokenizer, Model, readArchitecture } from '../../model/index.js';
import { checkCompareRequest } from '../../replaceme/compare/request.js';
import { type CompareOptions, type CompareReport, compare, type MeasuredRow } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { calibrationText, workplace } from './workplace.js';

test('the registries load without the binary of the webgpu package', () => {
  const loaded = Object.keys(createRequire(import.meta.url).cache);
  assert.equal(
    loaded.filter(path => path.endsWith('.node')),
    [],
  );
});

/** The tiny model, two texts to evaluate on, and a folder for rows. */
async function comparing(change: Parameters<typeof workplace>[0] = {}) {
  const place = await workplace(change);
  const texts = ['a.txt', 'b.txt'].map(name => join(place.path, name));
  writeFileSync(texts[0]!, calibrationText.slice(700));
  writeFileSync(texts[1]!, 'All work and no play makes Jack a dull boy. '.repeat(30));
  const options = (more: Partial<CompareOptions> = {}): CompareOptions => ({
    layers: [1, 2],
    methods: ['plain', 'replaceme-ls'],
    select: 'cosine',
    calibration: [place.calibration],
    evaluation: texts,
    evaluationTokens: 300,
    sequenceLength: 64,
    tokens: 1024,
    ...more,
  });
  const rows = () => readdirSync(join(place.out, 'rows')).sort();
  return { ...place, texts, options, rows };
}

const names = ({ rows }: CompareReport) => rows.map(({ layers, method }) => `${layers} ${method}`);

/** A comparison without what depends on the clock, and without the call that made it. */
const timeless = ({ dense, rows, ...report }: CompareReport) => {
  const { date, seconds, phases, peakMemoryBytes, repeat, ...head } = report;
  const { tokensPerSecond: _, ...still } = dense;
  return {
    ...head,
    dense: still,
    rows: rows.map(row => {
      if ('refused' in row) return row;
      const { fitSeconds, tokensPerSecond, selection, ...rest } = row;
      return { ...rest, selection: selection.by };
    }),
  };
};

test('without a report, the texts to evaluate on are still cut as asked', async () => {
  using place = await comparing();
  const options = place.options({ report: 'none', evaluationTokens: 100 });
  const { texts, candidates } = await checkCompareRequest(place.model, options);
  for (const { sequences } of texts!) assert.is(sequences.flat().length, 100);
  assert.is(candidates.length, 4);
});

test('every method at every number of layers, against the dense model, as evaluate finds it', async () => {
  using place = await comparing();
  await using device = await Device.open();
  const comparison = await compare(place.model, place.options({ device }));
  assert.equal(names(comparison), ['1 plain', '1 replaceme-ls', '2 plain', '2 replaceme-ls']);
  assert.is(device.memory.liveBytes, 0, 'nothing stays on the device');
  const { dense } = comparison;
  const rows = comparison.rows as MeasuredRow[];
  for (const { file, kl, top1 } of dense.eval) {
    assert.ok(['a.txt', 'b.txt'].includes(file));
    assert.is(top1, 1);
    assert.ok(Math.abs(kl) < 1e-6);
  }

  using model = await Model.load(device, place.model);
  const tokenizer = await loadTokenizer(place.model);
  // The byte tokenizer has no first token of its own: a text is cut every 64 tokens.
  const sequencesOf = async (path: string) => {
    const ids = (await tokenizer.encode(readFileSync(path, 'utf8'))).slice(0, 300);
    return [0, 64, 128, 192, 256].map(start => ids.slice(start, start + 64));
  };
  const sequences = await sequencesOf(place.texts[1]!);
  for (const row of rows.filter(({ method }) => method === 'plain')) {
    const [[layer, count]] = row.windows as [[number, number]];
    assert.is(count, row.layers);
    const keep = [0, 1, 2, 3, 4, 5].filter(at => at <= layer || at > layer + count);
    const expected = await evaluate(model.withLayers(keep), sequences, { against: model });
    assert.equal(row.eval[1], {
      file: 'b.txt',
      ppl: expected.perplexity,
      kl: expected.kl,
      top1: expected.top1,
    });
  }
  // The same selection at the same number of layers is made once.
  for (const at of [0, 2]) {
    assert.equal(rows[at]!.windows, rows[at + 1]!.windows);
    assert.equal(rows[at]!.selection, rows[at + 1]!.selection);
  }
  const tensors = expectedTensors(await readArchitecture(place.model));
  const parameters = (layers: number) =>
    tensors
      .filter(({ layer }) => layer === null || layer < layers)
      .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  assert.is(dense.parameters, parameters(6));
  for (const row of rows) {
    assert.is(row.parameters, parameters(6 - row.layers));
    assert.ok(row.fitSeconds > 0 && row.tokensPerSecond > 0);
    assert.ok(row.fitSeconds >= row.selection.seconds);
  }
  assert.ok((rows[1]!.details.relativeResidual as number) < 1);
});

test('a comparison that was stopped goes on where it was', async () => {
  using place = await comparing();
  await using device = await Device.open();
  const whole = await compare(place.model, place.options({ device }));
  const phases: string[] = [];
  const request = place.options({
    device,
    out: place.out,
    onProgress: ({ phase }) => void phases.push(phase),
  });
  const stop = () => {
    throw new Error('stop');
  };
  await compare(place.model, { ...request, onRow: stop }).then(
    () => assert.unreachable(),
    error => assert.is(error.message, 'stop'),
  );
  assert.is(device.memory.liveBytes, 0);
  assert.equal(place.rows(), ['1-plain.json', 'dense.json']);
  assert.ok(phases.includes('plain, 1 removed: distances'));

  phases.length = 0;
  const resumed = await compare(place.model, request);
  assert.equal(timeless(resumed), timeless(whole));
  assert.not.ok(
    phases.some(phase => phase.startsWith('plain, 1 removed')),
    'the row that is there is not made again',
  );
  assert.not.ok(phases.includes('replaceme-ls, 1 removed: distances'), 'its windows serve the next method');
  assert.ok(phases.includes('plain, 2 removed: distances'));
  assert.equal(place.rows(), [
    ...['1-plain.json', '1-replaceme-ls.json', '2-plain.json', '2-replaceme-ls.json', 'dense.json'],
  ]);

  phases.length = 0;
  const again = await compare(place.model, request);
  assert.equal([again.dense, again.rows, again.samples], [resumed.dense, resumed.rows, resumed.samples]);
  assert.equal(phases, [], 'nothing is loaded where all is there');
  assert.equal(JSON.parse(readFileSync(join(place.out, 'report.json'), 'utf8')), sealed(again));
  const markdown = readFileSync(join(place.out, 'compare.md'), 'utf8');
  assert.match(markdown, /^# model: methods compared\n/);
  assert.is(markdown.match(/^\| (dense|plain|replaceme-ls) \|/gm)!.length, 5);
});

test('rows of other settings or texts are refused by name, and made again with force', async () => {
  using place = await comparing();
  await using device = await Device.open();
  const request = place.options({ device, layers: [1], methods: ['plain'], out: place.out });
  await compare(place.model, request);
  const refused = async (change: Partial<CompareOptions>, words: RegExp) =>
    assert.match(
      await rejectsWith(() => compare(place.model, { ...request, ...change }), 'OUTPUT_EXISTS'),
      words,
    );
  await refused(
    { tokens: 512 },
    /1-plain\.json: the row was made with other settings: tokens was 1024, is now 512$/,
  );
  await refused({ evaluation: [place.texts[0]!] }, /evaluation was \["/);
  await refused({ alpha: 1 }, /alpha was not given, is now 1/);
  writeFileSync(place.calibration, `${calibrationText} More.`);
  await refused({}, /calibration was \[\{"sha256"/);
  const path = join(place.out, 'rows', '1-plain.json');
  const before = readFileSync(path, 'utf8');
  await compare(place.model, { ...request, force: true });
  assert.not.equal(readFileSync(path, 'utf8'), before);
  // Other files at other places with the same content are the same.
  const elsewhere = join(place.path, 'elsewhere');
  mkdirSync(elsewhere);
  const copy = join(elsewhere, 'copy.txt');
  writeFileSync(copy, readFileSync(place.calibration));
  await compare(place.model, { ...request, calibration: [copy] });
  const row = readFileSync(path, 'utf8');
  const { sha256: _, ...unsealed } = JSON.parse(row);
  const edited = row.replace(/"ppl": \d/, '"ppl": 0');
  assert.not.equal(edited, row);
  for (const damaged of [edited, JSON.stringify(unsealed), row.replace('"windows"', '"window"')]) {
    writeFileSync(path, damaged);
    await rejectsWith(() => compare(place.model, request), 'CONFIG_INVALID');
  }
  await compare(place.model, { ...request, force: true });
  assert.is(JSON.parse(readFileSync(path, 'utf8')).row.method, 'plain');
  for (const foreign of ['[]', '{']) {
    writeFileSync(path, foreign);
    await rejectsWith(() => compare(place.model, { ...request, force: true }), 'OUTPUT_EXISTS');
  }
});

test('a method that cannot do it has a row with the reason, other failures end the comparison', async () => {
  // No Hadamard matrix has 34 rows.
  using place = await comparing({ config: { hidden_size: 34 } });
  const request = place.options({ layers: [1], methods: ['linear-patch', 'plain'], out: place.out });
  const { rows } = await compare(place.model, request);
  const [refused, made] = rows;
  assert.ok('refused' in refused!);
  assert.match(refused.refused, /34/);
  assert.equal([refused.windows, refused.eval], [[], []]);
  assert.not('refused' in made!);
  const markdown = readFileSync(join(place.out, 'compare.md'), 'utf8');
  assert.match(markdown, /\n- linear-patch, 1 layers: /);
  // Fewer tokens than dimensions, no ridge: not the method's refusal.
  const few = place.options({
    layers: [1],
    methods: ['plain', 'replaceme-ls'],
    tokens: 20,
    out: join(place.path, 'few'),
  });
  await rejectsWith(() => compare(place.model, few), 'NOT_POSITIVE_DEFINITE');
  assert.equal(readdirSync(join(place.path, 'few', 'rows')).sort(), ['1-plain.json', 'dense.json']);
});

test('a folder that cannot be written is found before the model is loaded', async () => {
  using place = await comparing();
  const phases: string[] = [];
  writeFileSync(join(place.path, 'file'), '');
  const request = place.options({
    out: join(place.model, '..', 'file', 'inside a file'),
    onProgress: ({ phase }) => void phases.push(phase),
  });
  await rejectsWith(() => compare(place.model, request), 'OUTPUT_FAILED');
  assert.equal(phases, []);
});

test('wrong requests are refused before a device is opened', async () => {
  using place = await comparing();
  const missing = join(place.path, 'no-such.txt');
  const wrong = async (
    more: Partial<CompareOptions>,
    code: Parameters<typeof rejectsWith>[1],
    words: RegExp,
  ) =>
    assert.match(
      await rejectsWith(
        () => compare(place.model, place.options({ adapter: 'no such adapter', ...more })),
        code,
      ),
      words,
    );
  await wrong({ layers: [] }, 'INVALID_ARGUMENT', /no layers/);
  await wrong({ layers: [1, 6] }, 'INVALID_ARGUMENT', /cannot remove 6 of 6/);
  await wrong({ layers: [1, 1] }, 'INVALID_ARGUMENT', /1 is given twice/);
  await wrong({ methods: [] }, 'INVALID_ARGUMENT', /no methods/);
  await wrong({ methods: ['plain', 'magic'] }, 'INVALID_ARGUMENT', /no method 'magic'/);
  await wrong({ select: 'magic' }, 'INVALID_ARGUMENT', /no selection 'magic'/);
  await wrong({ evaluation: [] }, 'INVALID_ARGUMENT', /no evaluation files/);
  await wrong({ evaluation: [missing] }, 'DATA_INVALID', /no-such\.txt/);
  await wrong({ calibration: [missing] }, 'DATA_INVALID', /no-such\.txt/);
  await wrong({ evaluationTokens: 1 }, 'INVALID_ARGUMENT', /`evaluationTokens` is 1/);
  await wrong({}, 'ADAPTER_NONE', /no such adapter/);
});

test('a model that does not fit is compared layer by layer, with the same numbers', async () => {
  using place = await comparing({
    config: {
      ...{ hidden_size: 128, intermediate_size: 512, head_dim: 32 },
      layer_marks: undefined,
    },
  });
  const methods = ['plain', 'replaceme-ls', 'refit', 'linear-patch-diagonal', 'laco'];
  const run = async (memoryLimit?: number) => {
    const notices: string[] = [];
    const report = await compare(
      place.model,
      place.options({
        ...{ methods, layers: [2], batchTokens: 64, tokens: 256, report: 'none' },
        ...(memoryLimit !== undefined && { memoryLimit }),
        onNotice: text => notices.push(text),
      }),
    );
    return { ...report, notices };
  };
  const whole = await run();
  const least = await run(100_000).catch((error: RmError) => error);
  assert.ok(least instanceof RmError);
  const needed = Number(/needs ([\d.]+) MiB/.exec(least.message)![1]) * 2 ** 20;
  const streamed = await run(Math.ceil(1.01 * needed));
  assert.equal(whole.notices, []);
  assert.match(streamed.notices[0]!, /its layers go to the device in turn/);
  for (const [i, row] of streamed.rows.entries()) {
    const expected = whole.rows[i]!;
    if (row.method === 'laco') {
      assert.match((row as { refused: string }).refused, /in turn, and the method laco reads several layers/);
      continue;
    }
    const numbers = ({ eval: scores, windows, details }: MeasuredRow) => ({ scores, windows, details });
    assert.equal(numbers(row as MeasuredRow), numbers(expected as MeasuredRow), row.method);
  }
  assert.equal(streamed.dense.eval, whole.dense.eval);
});

test('a row that fits in no way is refused before anything is loaded, with what to do', async () => {
  using place = await comparing();
  const phases: string[] = [];
  const wanted = place.options({ memoryLimit: 300_000, onProgress: ({ phase }) => phases.push(phase) });
  const error = await compare(place.model, wanted).catch((caught: RmError) => caught);
  assert.ok(error instanceof RmError);
  assert.is(error.code, 'OUT_OF_MEMORY');
  assert.match(
    error.message,
    /^the run needs .* (with all weights on the device|at the least), 293 KiB are allowed/,
  );
  assert.match(error.fix, /raise `memoryLimit` to .*iB/i);
  assert.equal(phases, []);
});

test.run();
