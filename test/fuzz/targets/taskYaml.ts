import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shippedPath } from '../../../model/files/shippedPath.js';
import { findTasks } from '../../../model/tasks/index.js';
import { asFile } from '../files.js';
import { yamlMutator } from '../mutators/yaml.js';
import type { Target } from '../target.js';

const words = [
  ...[
    'task',
    'output_type',
    'multiple_choice',
    'loglikelihood',
    'doc_to_text',
    'doc_to_choice',
    'doc_to_target',
    'fields',
  ],
  ...[
    'metric_list',
    'metric',
    'acc',
    'acc_norm',
    'perplexity',
    'num_fewshot',
    'fewshot_config',
    'rows',
    'group_by',
    'dataset',
  ],
];

/** A task file. */
export const target: Target = {
  corpus: async () =>
    readdirSync(shippedPath('tasks'))
      .sort()
      .map(name => new Uint8Array(readFileSync(shippedPath('tasks', name)))),
  mutate: yamlMutator(words),
  open: async folder => asFile(join(folder, 'task.yaml'), path => findTasks([path])),
};
