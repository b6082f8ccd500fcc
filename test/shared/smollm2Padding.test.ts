import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32 } from '../../engine/index.js';
import { loadChatTemplate } from '../../model/text/chat.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { Model } from '../../model/transformer/model.js';
import { embedTokens, forward } from '../../model/transformer/transformer.js';
import { type CalibrationBatch, openBatch } from '../../replaceme/calibration/calibrationBatch.js';
import { faithfulBatches, faithfulCalibration } from '../../replaceme/calibration/faithfulCalibration.js';
import { maxAbsError } from '../gpu.js';
import { saySkipped, sharedPath, temporaryFolder } from '../support.js';

const { RM_SMOLLM2: folder, RM_PYTHON: python } = process.env;
const golden = sharedPath('golden', 'original-replaceme');

/** Outputs of some layers, [rows, hidden] each, with the rows of the sequences' last tokens. */
async function layerOutputs(model: Model, calibrationBatch: CalibrationBatch, layers: readonly number[]) {
  using batch = openBatch(model.device, calibrationBatch);
  const outputs = new Map<number, Float32Array>();
  let state = embedTokens(model, batch);
  for (let layer = 0; layer <= Math.max(...layers); layer++) {
    const next = forward(model, batch, { from: layer, to: layer + 1, input: state });
    state.dispose();
    state = next;
    if (layers.includes(layer)) outputs.set(layer, await downloadF32(state));
  }
  state.dispose();
  return { outputs, lastRows: batch.lastRows };
}

function angularDistance(a: Float32Array, b: Float32Array, row: number, hidden: number): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = row * hidden; i < (row + 1) * hidden; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return Math.acos(ab / Math.sqrt(aa * bb)) / Math.PI;
}

if (!folder || !golden) {
  saySkipped('the original program on SmolLM2: set RM_SMOLLM2 to its folder, shared/ beside the repository');
} else {
  const device = await Device.open();
  const model = await Model.load(device, folder);
  const tokenizer = await loadTokenizer(folder);
  const chat = await loadChatTemplate(folder, tokenizer);
  test.after(async () => {
    model.dispose();
    await device.close();
  });

  test('angular distances of the last tokens are those of transformers', async () => {
    const calibration = await faithfulCalibration(tokenizer, chat, {
      files: [join(golden, 'calib32.jsonl')],
      tokens: 8 * 512,
      sequenceLength: 512,
    });
    assert.is(calibration.sequences.length, 8);
    // The first two texts by transformers 5.23.0 in float32, with the original program's formula: i, i + n, distances.
    const expected = [
      [11, 18, 0.134798, 0.180116],
      [8, 15, 0.148912, 0.182227],
      [10, 17, 0.149315, 0.198841],
    ] as const;
    const [batch] = await faithfulBatches(calibration, tokenizer, 1024);
    const { outputs, lastRows } = await layerOutputs(model, batch!, [8, 10, 11, 15, 17, 18]);
    assert.equal(lastRows, [511, 1023]);
    for (const [i, j, ...distances] of expected) {
      const found = lastRows.map(row =>
        angularDistance(outputs.get(i)!, outputs.get(j)!, row, model.arch.hidden),
      );
      assert.ok(maxAbsError(found, distances) < 2e-6, `${i} to ${j}: ${found}`);
    }
  });

  if (!python) saySkipped('padding against transformers: needs RM_PYTHON');
  else
    test('hidden states of texts and padding are those of transformers', async () => {
      using place = temporaryFolder();
      const texts = [
        'One.',
        'A longer text, to which the others are padded: '.repeat(6),
        'Three short words',
      ];
      const file = join(place.path, 'texts.jsonl');
      const eight = Array.from({ length: 8 }, (_, i) => JSON.stringify({ text: texts[i % 3] }));
      writeFileSync(file, eight.join('\n'));
      const options = { files: [file], tokens: 1000, sequenceLength: 48 };
      const calibration = await faithfulCalibration(tokenizer, chat, options);
      const [batch] = await faithfulBatches(calibration, tokenizer, 1000);
      const { outputs } = await layerOutputs(model, batch!, [0, 5, 28]);
      const states = join(place.path, 'states.json');
      writeFileSync(
        states,
        JSON.stringify({
          ids: batch!.sequences,
          lengths: batch!.lengths,
          layers: Object.fromEntries([...outputs].map(([layer, values]) => [layer, [...values]])),
        }),
      );
      const script = join(
        dirname(fileURLToPath(import.meta.url)),
        ...['..', '..', '..', 'test', 'python', 'padded_states.py'],
      );
      const { status, stdout, stderr } = spawnSync(python, [script, folder, states], { encoding: 'utf8' });
      console.log(stdout);
      assert.is(status, 0, `${stdout}\n${stderr}`);
    });
}

test.run();
