import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { prune } from '../../replaceme/index.js';
import { windowsOf } from '../../replaceme/run/window.js';
import { keepsLayerPattern } from '../../replaceme/selections/layerPattern.js';
import { shortList } from '../../replaceme/selections/shortList.js';
import { ggufCases, writeGgufCase } from '../ggufFamilies.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

// Costs 5 s: two prunes of a tiny Gemma 2.

const layers = 9;
/** Every third layer sees everything and rotates by other frequencies. */
const isFull = (layer: number) => layer % 3 === 2;
const arch = {
  layers,
  attentionWindow: Array.from({ length: layers }, (_, layer) => (isFull(layer) ? null : 4)),
  layerRope: Array.from({ length: layers }, (_, layer) => (isFull(layer) ? 0 : 1)),
};

test('a pattern is kept where the rule by place gives every layer that stays its own kind', () => {
  for (let bits = 2; bits < 2 ** layers; bits += 2) {
    const removed = Array.from({ length: layers }, (_, layer) => layer).filter(layer => (bits >> layer) & 1);
    const kept = Array.from({ length: layers }, (_, layer) => layer).filter(
      layer => !removed.includes(layer),
    );
    const expected = kept.every((layer, place) => isFull(layer) === isFull(place));
    assert.is(keepsLayerPattern(arch, windowsOf(removed)), expected, removed.join());
  }
});

test('the short list has the best sets of those that suit, and is empty where none does', () => {
  const windows = [1, 2, 3, 4].flatMap(count =>
    Array.from({ length: layers - count }, (_, layer) => {
      const cosine = (1 + ((layer * 5 + count * 3) % 7)) * count;
      return { layer, count, cosine, residual: cosine, unexplained: 1 };
    }),
  );
  const map = { layers, tokens: 1, windows };
  for (const count of [3, 4]) {
    const some = shortList(map, count, 6, 4, set => keepsLayerPattern(arch, set));
    assert.ok(some.length > 0);
    for (const set of some) assert.ok(keepsLayerPattern(arch, set), JSON.stringify(set));
  }
  assert.equal(
    shortList(map, 3, 6, 4, () => false),
    [],
  );
});

test('for a GGUF file, windows that it can say are chosen, or the run ends before it fits', async () => {
  using folder = temporaryFolder();
  const { gemma2 } = ggufCases;
  const model = join(folder.path, 'model');
  // Every second of its four layers slides.
  writeGgufCase(model, gemma2!);
  const calibration = join(folder.path, 'text.jsonl');
  const letters = 'abcdefghijklmnopqrstuvwxyz';
  const rows = Array.from({ length: 40 }, (_, s) =>
    Array.from({ length: 40 }, (_, i) => letters[(s * 7 + i * i * (1 + (s % 3))) % 26]).join(''),
  );
  writeFileSync(calibration, rows.map(text => JSON.stringify({ text })).join('\n'));
  const out = join(folder.path, 'out.gguf');
  const settings = { layers: 2, calibration: [calibration], sequenceLength: 32, report: 'none' } as const;
  const { selection } = await prune(model, out, { ...settings, method: 'plain', select: 'measured' });
  assert.is(selection.candidates!.length, 2);
  assert.ok(existsSync(out));

  const phases: string[] = [];
  // Only layers 1 and 3 have a layer before each of them; without both, two layers that slide follow each other.
  const apart = { ...settings, method: 'replaceme-diagonal', select: 'cosine', windows: 2, apart: true };
  const onProgress = ({ phase }: { phase: string }) => void phases.push(phase);
  const other = join(folder.path, 'other.gguf');
  assert.match(
    await rejectsWith(() => prune(model, other, { ...apart, onProgress }), 'UNSUPPORTED_FAMILY'),
    /which of its layers use a sliding window/,
  );
  assert.not.match(phases.join(), /layers \d+ to/);
  assert.not.ok(existsSync(other));
});

test.run();
