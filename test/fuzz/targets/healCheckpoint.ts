import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCheckpoint, writeCheckpoint } from '../../../replaceme/healing/checkpointFile.js';
import { asFile, promised } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { sealedTensorsMutator } from '../mutators/sealed.js';
import type { Target } from '../target.js';

const tensors = { parameters: [], moments: [] };
const recipe = { model: 'abc', steps: 3 };
const state = {
  position: { epoch: 0, used: 2 },
  steps: [
    { step: 1, learningRate: 0.001, loss: 2.5, gradientNorm: 1 },
    { step: 2, learningRate: 0.001, loss: null, gradientNorm: null },
  ],
  heldOut: [{ step: 0, nll: 3, kl: 0.1 }],
};
const mutateJson = jsonMutator([
  'position',
  'steps',
  'heldOut',
  'step',
  'loss',
  'nll',
  'kl',
  'recipe',
  'state',
  'format',
]);

/** The checkpoint of an interrupted healing, up to its tensors. */
export const target: Target = {
  corpus: async folder => [
    await writeCheckpoint(join(folder, 'made'), recipe, state, tensors).then(
      () => new Uint8Array(readFileSync(join(folder, 'made'))),
    ),
  ],
  mutate: sealedTensorsMutator(mutateJson),
  open: async folder =>
    asFile(join(folder, 'out.checkpoint.safetensors'), async path => {
      const read = await readCheckpoint(path, recipe, { steps: 3, sequences: 3 }, tensors);
      promised(
        read !== undefined && [read.steps, read.heldOut].every(Array.isArray),
        'a state without steps',
      );
    }),
};
