import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, sealed } from '../../engine/index.js';
import { Batch, evaluate, loadTokenizer, Model } from '../../model/index.js';
import { loadChatTemplate } from '../../model/text/chat.js';
import { readHealingTexts } from '../../replaceme/healing/healingTexts.js';
import { patchedLayers, readCut } from '../../replaceme/healing/patchedLayers.js';
import { type HealOptions, heal, planHealing, prune } from '../../replaceme/index.js';
import { readHealing, writeHealing } from '../../replaceme/options/healingWords.js';
import { rejectsWith } from '../gpu.js';
import { writeTinyModel } from '../tinyModel.js';
import { treeOf } from '../treeOf.js';
import { options, workplace } from './workplace.js';

/** A value of a file, of any form. */
type Json = ReturnType<typeof JSON.parse>;

/** A pruned tiny model beside its original: layers 3 and 4 of six are gone, layer 2 is patched. */
async function prunedPlace(device: Device) {
  const place = await workplace();
  const pruned = join(place.path, 'cut');
  await prune(place.model, pruned, {
    ...options(place.calibration, { layers: undefined, remove: [3, 4], report: 'none' }),
    device,
  });
  const healed = join(place.path, 'healed');
  const more = (extra: Partial<HealOptions> = {}): HealOptions => ({
    ...{ data: [place.calibration], teacher: place.model, device, sequenceLength: 64 },
    ...{ steps: 12, batchTokens: 256, learningRate: 3e-3, ...extra },
  });
  return Object.assign(place, { pruned, healed, more });
}

test('heal trains the map at the cut towards the model before pruning, and writes an ordinary model', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const live = device.memory.liveBytes;
  const report = await heal(place.pruned, place.healed, place.more({ steps: 40 }));
  assert.is(device.memory.liveBytes, live);
  assert.equal(report.cut, { patched: [2], keptLayers: [0, 1, 2, 5] });
  assert.is(report.healing.parameters, 32 * 32);
  assert.is(report.healing.steps.length, 40);
  assert.ok(report.healing.heldOut.at(-1)!.kl! < 0.97 * report.healing.heldOut[0]!.kl!);
  // Rounded to bf16.
  assert.ok(Math.abs(report.result.kl! / report.healing.heldOut.at(-1)!.kl! - 1) < 0.02);
  assert.match(
    report.sentence,
    /^Healed cut by 40 steps towards model, training the linear map after the cut: KL/,
  );

  const files = readdirSync(place.healed).sort();
  assert.ok(
    ['README.md', 'README.base.md', 'report.json', 'report.html'].every(name => files.includes(name)),
  );
  assert.not(existsSync(`${place.healed}.checkpoint.safetensors`));
  const written = readFileSync(join(place.healed, 'report.json'), 'utf8');
  assert.not(written.includes(place.path), 'no paths');
  assert.match(readFileSync(join(place.healed, 'report.html'), 'utf8'), /Did healing help\?/);
  // Only the patched down_proj has changed.
  using before = await Model.load(device, place.pruned);
  using after = await Model.load(device, place.healed);
  using batch = new Batch(device, [[1, 2, 3]]);
  assert.is(batch.tokens, 3);
  assert.equal(after.arch, before.arch);
  assert.equal(await readCut(place.healed, 4), report.cut);

  // What has been healed can be healed further.
  const again = await heal(
    place.healed,
    join(place.path, 'again'),
    place.more({ train: 'down-proj', steps: 2 }),
  );
  assert.equal(again.healing.layers, [2]);
  assert.is(again.healing.parameters, 32 * 48);
  const tokens = await (await loadTokenizer(place.pruned)).encode('Sentence 7 says that 7 times 7 is 49.');
  const { nll } = await evaluate(after, [tokens]);
  assert.ok(Number.isFinite(nll));
});

test('heal trains all weights on the next token without a teacher', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const { teacher: _, ...alone } = place.more({
    train: 'full',
    learningRate: 1e-2,
    steps: 15,
    weightDecay: 0.01,
  });
  const report = await heal(place.pruned, place.healed, alone);
  assert.is(report.teacher, undefined);
  const [first, last] = [report.healing.heldOut[0]!, report.healing.heldOut.at(-1)!];
  assert.is(first.kl, undefined);
  assert.ok(last.nll < first.nll - 0.3, `${first.nll} to ${last.nll}`);
  assert.ok(Math.abs(report.result.nll - last.nll) < 0.05);
  assert.equal(report.healing.layers, []);
});

test('prune heals in one go, closed form first', async () => {
  await using device = await Device.open();
  using place = await workplace();
  const report = await prune(place.model, place.out, {
    ...options(place.calibration, { method: 'refit' }),
    heal: {
      closedForm: true,
      gradient: { train: 'transform', steps: 30, learningRate: 3e-3, batchTokens: 256 },
    },
    device,
  });
  assert.is(report.recipe.heal, true);
  const { healing } = report;
  assert.is(healing!.steps.length, 30);
  assert.is(healing!.heldOut[0]!.step, 0);
  assert.ok(healing!.heldOut.at(-1)!.kl! < healing!.heldOut[0]!.kl!);
  // The report measures what was written, after both.
  const result = report.evaluation!.models.find(({ role }) => role === 'result')!;
  assert.ok(Math.abs(result.eval[0]!.kl / healing!.heldOut.at(-1)!.kl! - 1) < 0.05);
  assert.match(
    report.sentence,
    /with closed-form healing and 30 steps of training the linear map after the cut/,
  );
  assert.ok(report.plan!.memory.healing! > 0 && report.phases.some(({ name }) => name === 'heal'));
  assert.match(
    readFileSync(join(place.out, 'README.md'), 'utf8'),
    /closed-form healing, then 30 steps of healing/,
  );
});

test('a prune that is interrupted while it trains goes on with the same losses', async () => {
  await using device = await Device.open();
  using place = await workplace();
  const asked = {
    ...options(place.calibration, { layers: undefined, remove: [3], report: 'none' }),
    heal: { gradient: { train: 'transform' as const, steps: 12, learningRate: 3e-3, batchTokens: 128 } },
    ...{ method: 'plain', device, checkpointEvery: 0 },
  };
  const whole = await prune(place.model, place.out, asked);
  const other = join(place.path, 'other');
  const stop = new AbortController();
  let interrupted = false;
  await prune(place.model, other, {
    ...asked,
    signal: stop.signal,
    onProgress: ({ phase, done }) => {
      if (phase === 'heal' && done === 7) stop.abort(new Error('stopped'));
    },
  }).catch(() => {
    interrupted = true;
  });
  assert.ok(interrupted && !existsSync(other));
  const steps: number[] = [];
  const resumed = await prune(place.model, other, {
    ...asked,
    resume: true,
    onProgress: ({ phase, done }) => {
      if (phase === 'heal' && done > 0) steps.push(done);
    },
  });
  assert.ok(steps[0]! > 1, 'finished steps are not done again');
  assert.equal(resumed.healing, whole.healing);
});

test('a plan says what healing takes', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const plan = await planHealing(place.pruned, undefined, place.more());
  assert.is(plan.summary, '12 steps of 256 tokens: transform of layer 2, objective kl');
  assert.is(plan.parameters, 1024);
  assert.is(plan.memory.training, 4 * 5 * 1024);
  const full = await planHealing(place.pruned, undefined, place.more({ train: 'full' }));
  assert.ok(full.memory.total > plan.memory.total && full.flops.training > plan.flops.training);
  assert.not(existsSync(place.healed));
  // The real peak lies below the plan, and not by much more than what tiny buffers round up to.
  device.memory.takePeak();
  const { peakMemoryBytes } = await heal(place.pruned, place.healed, place.more());
  assert.ok(peakMemoryBytes > 0);
});

test('a teacher of another vocabulary, width or tokenizer is refused, and what else contradicts itself', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const other = async (config: Record<string, unknown>) => {
    const folder = join(place.path, `other-${JSON.stringify(config).replace(/\W/g, '')}`);
    mkdirSync(folder);
    await writeTinyModel(folder, { config });
    return folder;
  };
  const renamed = await other({});
  const tokenizer = JSON.parse(readFileSync(join(renamed, 'tokenizer.json'), 'utf8'));
  const { vocab } = tokenizer.model;
  [vocab.a, vocab.b] = [vocab.b, vocab.a];
  writeFileSync(join(renamed, 'tokenizer.json'), JSON.stringify(tokenizer));
  const empty = join(place.path, 'empty.txt');
  writeFileSync(empty, '');
  const short = join(place.path, 'short.txt');
  writeFileSync(short, 'Short.');
  const cases: [Partial<HealOptions>, RegExp, 'INVALID_ARGUMENT' | 'DATA_INVALID'][] = [
    [
      { teacher: await other({ vocab_size: 300 }) },
      /vocabulary of 300 tokens, the model to heal one of 260/,
      'INVALID_ARGUMENT',
    ],
    [
      { teacher: await other({ hidden_size: 64 }) },
      /hidden states of 64 numbers, the model to heal of 32/,
      'INVALID_ARGUMENT',
    ],
    [{ teacher: renamed }, /its tokenizer differs/, 'INVALID_ARGUMENT'],
    [{ layers: [4] }, /there is no layer 4 in a model of 4 layers/, 'INVALID_ARGUMENT'],
    [{ train: 'full', layers: [2] }, /all weights are trained/, 'INVALID_ARGUMENT'],
    [{ data: [] }, /no text to train on/, 'INVALID_ARGUMENT'],
    [{ data: [empty] }, /the file is empty/, 'DATA_INVALID'],
    [{ data: [short] }, /no text is left to train on/, 'DATA_INVALID'],
    [{ learningRate: -1 }, /`learningRate` is -1/, 'INVALID_ARGUMENT'],
    [{ steps: 3, warmup: 3 }, /leaves no step of 3/, 'INVALID_ARGUMENT'],
    [{ topK: 0 }, /`topK` is 0/, 'INVALID_ARGUMENT'],
    [{ finish: true }, /nothing to finish/, 'INVALID_ARGUMENT'],
    [{ train: 'half' as never }, /`train` is 'half'/, 'INVALID_ARGUMENT'],
  ];
  for (const [extra, message, code] of cases) {
    assert.match(await rejectsWith(() => heal(place.pruned, place.healed, place.more(extra)), code), message);
  }
  const { teacher: _, ...alone } = place.more({ objective: 'kl' });
  assert.match(
    await rejectsWith(() => heal(place.pruned, place.healed, alone), 'INVALID_ARGUMENT'),
    /kl has no teacher/,
  );
  const reportPath = join(place.pruned, 'report.json');
  const report = JSON.parse(readFileSync(reportPath, 'utf8'));
  const { sha256: _hash, ...unsealed } = report;
  const layers = report.output.keptLayers.length;
  const nonsense: [what: string, change: (report: Json) => unknown][] = [
    ['kept layers reversed', r => r.output.keptLayers.reverse()],
    ['kept layers twice', r => (r.output.keptLayers[1] = r.output.keptLayers[0])],
    ['a negative layer', r => (r.output.keptLayers[0] = -1)],
    ['a layer beyond', r => (r.output.keptLayers[3] = 99)],
    ['half a layer', r => (r.output.keptLayers[1] = 0.5)],
    ['a layer as text', r => (r.output.keptLayers[1] = '1')],
    ['no kept layers', r => (r.output.keptLayers = [])],
    ['kept layers as an object', r => (r.output.keptLayers = {})],
    ['another window', r => (r.selection.windows[0].layer += 1)],
    ['a longer window', r => (r.selection.windows[0].count += 1)],
    ['a window of nothing', r => (r.selection.windows[0].count = 0)],
    ['an endless window', r => (r.selection.windows[0].count = 1e15)],
    ['a window that is none', r => (r.selection.windows[0] = null)],
    ['no windows', r => (r.selection.windows = [])],
    ['windows as text', r => (r.selection.windows = 'all')],
    ['no selection', r => delete r.selection],
    ['another number of layers', r => (r.output.layers = 3)],
    ['another original', r => (r.model.layers = 7)],
    ['an original of 1e15 layers', r => (r.model.layers = 1e15)],
    ['a kind of its own', r => (r.kind = 'constructor')],
    ['no kind', r => delete r.kind],
    ['another summary', r => (r.summary = 'keep 0, remove 1..2 (2 of 6 layers)')],
    [
      'the cut of a healing',
      r => Object.assign(r, { kind: 'heal', cut: { patched: [9], keptLayers: [0, 1, 2, 3] } }),
    ],
  ];
  for (const [what, change] of nonsense) {
    // With the old hash, without one, and with a new one.
    for (const seal of [
      (r: object) => r,
      ({ sha256: _, ...r }: Json) => r,
      ({ sha256: _, ...r }: Json) => sealed(r),
    ]) {
      const changed = structuredClone(report);
      change(changed);
      writeFileSync(reportPath, JSON.stringify(seal(changed)));
      const message = await rejectsWith(() => readCut(place.pruned, layers), 'CONFIG_INVALID').catch(String);
      assert.match(message, /report\.json: is not as it was written: /, what);
    }
  }
  writeFileSync(reportPath, JSON.stringify({ ...report, sentence: 'It is a better model now.' }));
  await rejectsWith(() => heal(place.pruned, place.healed, place.more()), 'CONFIG_INVALID');
  // As written, in another layout, and as it was before reports had a hash.
  for (const good of [JSON.stringify(report, null, 2), JSON.stringify(report), JSON.stringify(unsealed)]) {
    writeFileSync(reportPath, good);
    assert.equal((await readCut(place.pruned, layers))!.keptLayers, report.output.keptLayers);
  }
  assert.is(await readCut(place.pruned, layers + 1), undefined, 'the report of another model, copied along');
  rmSync(reportPath);
  const unknown = await rejectsWith(() => heal(place.pruned, place.healed, place.more()), 'INVALID_ARGUMENT');
  assert.match(unknown, /no report\.json that names the patched layer/);
  assert.not(existsSync(place.healed));
});

test('a learning rate that diverges ends the run; what was kept before can be made a model', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const steep = place.more({
    ...{ train: 'full', learningRate: 2, warmup: 290, steps: 300, checkpointEvery: 1, batchTokens: 128 },
  });
  const message = await rejectsWith(() => heal(place.pruned, place.healed, steep), 'DIVERGED');
  assert.match(message, /healing has diverged: /);
  assert.not(existsSync(place.healed));
  assert.ok(existsSync(`${place.healed}.checkpoint.safetensors`));

  await rejectsWith(() => heal(place.pruned, place.healed, steep), 'OUTPUT_EXISTS');
  const gentle = { ...steep, learningRate: 1e-3, resume: true };
  const differs = await rejectsWith(() => heal(place.pruned, place.healed, gentle), 'INVALID_ARGUMENT');
  assert.match(differs, /differs from this run in the learningRate: 2 there, 0\.001 now/);
  const { healing } = await heal(place.pruned, place.healed, { ...steep, resume: true, finish: true });
  assert.is(healing.steps.length, healing.resumedAt);
  assert.ok(healing.steps.length > 0 && healing.steps.length < 100);
  assert.not(existsSync(`${place.healed}.checkpoint.safetensors`));
});

test('killed between giving the output its name and removing the checkpoint: nothing is left to do', async () => {
  await using device = await Device.open();
  using place = await prunedPlace(device);
  const checkpoint = `${place.healed}.checkpoint.safetensors`;
  const kept = join(place.path, 'kept');
  const short = place.more({ steps: 4, checkpointEvery: 1 });
  const report = await heal(place.pruned, place.healed, {
    ...short,
    onProgress: () => existsSync(checkpoint) && copyFileSync(checkpoint, kept),
  });
  copyFileSync(kept, checkpoint);
  const before = treeOf(place.healed);
  const finished = await heal(place.pruned, place.healed, { ...short, resume: true });
  assert.equal(finished.healing.steps, report.healing.steps);
  assert.equal(treeOf(place.healed), before);
  assert.not(existsSync(checkpoint));
  // The output of another run is in the way as ever.
  copyFileSync(kept, checkpoint);
  const other = JSON.parse(readFileSync(join(place.healed, 'report.json'), 'utf8'));
  other.healing.steps[0].loss = 7;
  const { sha256: _, ...rest } = other;
  writeFileSync(join(place.healed, 'report.json'), JSON.stringify(sealed(rest), null, 2));
  await rejectsWith(() => heal(place.pruned, place.healed, { ...short, resume: true }), 'OUTPUT_EXISTS');
  assert.ok(existsSync(checkpoint));
});

test('every tenth document of a file is held out, as far as they are wanted; or other files are', async () => {
  using place = await workplace();
  const tokenizer = await loadTokenizer(place.model);
  const reader = { tokenizer, chat: await loadChatTemplate(place.model, tokenizer) };
  const reading = { files: [place.calibration], tokens: 1e6, sequenceLength: 64, heldOutTokens: 1e6 };
  const { training, heldOut } = await readHealingTexts(reader, reading);
  const numbers = async (sequences: readonly (readonly number[])[]) => {
    const texts = await Promise.all(sequences.map(ids => tokenizer.decode(ids)));
    return [...texts.join('').matchAll(/Sentence (\d+) /g)].map(([, n]) => Number(n));
  };
  assert.equal(await numbers(heldOut), [0, 10, 20, 30, 40, 50]);
  const trained = new Set(await numbers(training.map(({ ids }) => ids)));
  assert.ok([0, 10, 20, 30, 40, 50].every(n => !trained.has(n)));
  assert.ok(trained.size > 40);
  const other = join(place.path, 'other.txt');
  writeFileSync(other, 'Something else to read.');
  const apart = await readHealingTexts(reader, { ...reading, heldOutFiles: [other] });
  assert.is(await tokenizer.decode([...apart.heldOut[0]!]), 'Something else to read.');
  assert.ok(apart.tokens > training.reduce((sum, { ids }) => sum + ids.length, 0));
});

test('the words of healing on the command line, and back', () => {
  assert.equal(readHealing('none'), { closedForm: false });
  assert.equal(readHealing('closed-form'), { closedForm: true });
  assert.equal(readHealing('transform:300'), { gradient: { train: 'transform', steps: 300 } });
  assert.equal(readHealing('closed-form, full'), { closedForm: true, gradient: { train: 'full' } });
  assert.equal(readHealing('o-proj'), { closedForm: 'o-proj' });
  assert.equal(readHealing('auto,full:9'), { closedForm: 'auto', gradient: { train: 'full', steps: 9 } });
  const written = ['none', 'closed-form', 'o-proj', 'auto', 'full', 'down-proj:7', 'o-proj,transform:300'];
  for (const words of written) {
    assert.is(writeHealing(readHealing(words)!), words);
  }
  for (const wrong of [
    '',
    'magic',
    'transform:0',
    'transform:300,closed-form',
    'closed-form,',
    'full:1,full:2',
    'none,full',
  ]) {
    assert.is(readHealing(wrong), undefined, wrong);
  }
  assert.equal(patchedLayers([{ layer: 2 }, { layer: 7 }], [0, 1, 2, 6, 7, 9]), [2, 4]);
});

test.run();
