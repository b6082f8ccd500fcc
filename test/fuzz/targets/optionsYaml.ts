import { join } from 'node:path';
import { mergeFlags, readPruneConfig } from '../../../cli/prune/configFile.js';
import { asFile, bytesOf } from '../files.js';
import { yamlMutator } from '../mutators/yaml.js';
import type { Target } from '../target.js';

const words = [
  ...[
    'model',
    'out',
    'layers',
    'ratio',
    'remove',
    'window',
    'windows',
    'select',
    'method',
    'calib',
    'heal',
    'tokens',
  ],
  ...[
    'sequence-length',
    'sequenceLength',
    'layers_to_skip',
    'dataset_size',
    'batch_size',
    'max_length',
    'num_A',
    'accurate',
  ],
  ...[
    'refit',
    'replaceme-ls',
    'cosine',
    'measured',
    'closed-form,transform:300',
    '25%',
    '3..5',
    'statistics',
    'ridge',
  ],
];

/** The file of `prune --config`. */
export const target: Target = {
  corpus: async () =>
    [
      'model: a\nout: b\nlayers: 2\nmethod: refit\ncalib: [x.jsonl, y.txt]\nsequence-length: 128\nreport: none\n',
      'model_path: a\nsave_path: b\nlayers_to_skip: 8\ndataset: x.jsonl\ndataset_size: 100\nmax_length: 64\nuse_4bit: false\n',
      '{"remove": [3, 4], "heal": "closed-form", "ridge": 0.01}',
      'base: &base {layers: 2}\n<<: *base\nwindow: 3..5\n',
    ].map(bytesOf),
  mutate: yamlMutator(words),
  open: async folder =>
    asFile(join(folder, 'options.yaml'), async path => {
      const { flags } = await readPruneConfig(path);
      mergeFlags(flags, {});
    }),
};
