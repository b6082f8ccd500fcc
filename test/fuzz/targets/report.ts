import { join } from 'node:path';
import { sealed } from '../../../engine/index.js';
import { checkHealRequest } from '../../../replaceme/healing/healRequest.js';
import { writeTinyModel } from '../../tinyModel.js';
import { asFile, bytesOf, promised } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { sealedJsonMutator } from '../mutators/sealed.js';
import type { Target } from '../target.js';

const LAYERS = 6;
const head = {
  schema: 'rm-engine-report/2',
  version: '0.1.0',
  date: '2026-01-01T00:00:00Z',
  warnings: [],
  phases: [],
};

/** report.json in the folder of a pruned model, as `heal` reads it. */
export const target: Target = {
  corpus: async () => [
    bytesOf(
      sealed({
        ...head,
        kind: 'prune',
        summary: 'keep 2, remove 3..4 (2 of 8 layers)',
        model: { layers: 8 },
        selection: { windows: [{ layer: 2, count: 2 }], by: 'cosine' },
        output: { path: 'out', layers: LAYERS, keptLayers: [0, 1, 2, 5, 6, 7] },
      }),
    ),
    bytesOf(
      sealed({
        ...head,
        kind: 'heal',
        model: { layers: LAYERS },
        cut: { patched: [2], keptLayers: [0, 1, 2, 5, 6, 7] },
        output: { path: 'out' },
      }),
    ),
  ],
  mutate: sealedJsonMutator(
    jsonMutator([
      'kind',
      'prune',
      'heal',
      'cut',
      'patched',
      'keptLayers',
      'selection',
      'windows',
      'layer',
      'count',
      'output',
    ]),
  ),
  open: async folder => {
    await writeTinyModel(folder);
    return asFile(join(folder, 'report.json'), async () => {
      const { cut, layers } = await checkHealRequest(folder, undefined, { data: ['texts.jsonl'] });
      const isLayer = (layer: number) => Number.isInteger(layer) && layer >= 0 && layer < LAYERS;
      promised(layers.length > 0 && layers.every(isLayer), 'a layer that is none');
      const kept = cut?.keptLayers ?? [];
      promised(
        kept.length === LAYERS && kept.every((layer, i) => i === 0 || layer > kept[i - 1]!),
        'layers out of order',
      );
    });
  },
};
