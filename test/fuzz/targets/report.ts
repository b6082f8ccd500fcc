import { join } from 'node:path';
import { checkHealRequest } from '../../../replaceme/healing/healRequest.js';
import { writeTinyModel } from '../../tinyModel.js';
import { asFile, bytesOf, promised } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
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
    bytesOf({
      ...head,
      kind: 'prune',
      model: { layers: 8 },
      selection: { windows: [{ layer: 2, count: 2 }], by: 'cosine' },
      output: { path: 'out', keptLayers: [0, 1, 2, 5, 6, 7] },
    }),
    bytesOf({
      ...head,
      kind: 'heal',
      cut: { patched: [2], keptLayers: [0, 1, 2, 5, 6, 7] },
      output: { path: 'out' },
    }),
  ],
  mutate: jsonMutator([
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
