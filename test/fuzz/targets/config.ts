import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pruneConfig, supportedFamilies } from '../../../model/families/index.js';
import { parseJson } from '../../../model/files/jsonFile.js';
import { readArchitecture } from '../../../model/index.js';
import { inspectModel } from '../../../model/source/inspectModel.js';
import { dataPath } from '../../support.js';
import { tinyConfig, writeTinyModel } from '../../tinyModel.js';
import { asFile, bytesOf, dataFile } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';

const words = [
  ...supportedFamilies,
  ...[
    'default',
    'linear',
    'dynamic',
    'yarn',
    'llama3',
    'longrope',
    'proportional',
    'rope_scaling',
    'rope_parameters',
  ],
  ...[
    'sliding_attention',
    'full_attention',
    'layer_types',
    'sliding_window',
    'gelu',
    'gelu_pytorch_tanh',
    'silu',
  ],
  ...['float16', 'bfloat16', 'torch_dtype', 'num_hidden_layers', 'head_dim', 'partial_rotary_factor'],
];

/** config.json of every family, beside the weights of a tiny Llama. */
export const target: Target = {
  corpus: async () => [
    bytesOf(tinyConfig),
    ...readdirSync(dataPath('families'))
      .sort()
      .map(family => dataFile('families', family, 'config.json')),
    dataFile('clip', 'plain', 'config.json'),
  ],
  mutate: jsonMutator(words),
  open: async folder => {
    await writeTinyModel(folder);
    const path = join(folder, 'config.json');
    return asFile(path, async () => {
      const { family, layers } = await readArchitecture(folder);
      const keep = Array.from({ length: Math.min(layers, 100) - 1 }, (_, i) => i);
      if (keep.length > 0)
        pruneConfig(parseJson(readFileSync(path, 'utf8'), path) as Record<string, unknown>, keep);
      // No other fits the weights.
      if (family === 'llama') await inspectModel(folder);
    });
  },
};
