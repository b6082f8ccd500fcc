import { join } from 'node:path';
import { readCheckpoint } from '../../../replaceme/healing/checkpointFile.js';
import { asFile, promised, smallSafetensors } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { safetensorsMutator } from '../mutators/safetensors.js';
import type { Mutator, Target } from '../target.js';

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

/** Changes a value within the texts of the metadata, which are JSON themselves. */
const mutateHeader: Mutator = (input, random) => {
  try {
    const header = JSON.parse(new TextDecoder().decode(input)) as { __metadata__: Record<string, string> };
    const part = random.pick(['state', 'state', 'recipe']);
    header.__metadata__[part] = new TextDecoder().decode(
      mutateJson(new TextEncoder().encode(header.__metadata__[part]), random),
    );
    return new TextEncoder().encode(JSON.stringify(header));
  } catch {
    return mutateJson(input, random);
  }
};

/** The checkpoint of an interrupted healing, up to its tensors. */
export const target: Target = {
  corpus: async folder => [
    await smallSafetensors(folder, {
      format: 'rm-engine healing 1',
      recipe: JSON.stringify(recipe),
      state: JSON.stringify(state),
    }),
  ],
  mutate: safetensorsMutator(mutateHeader),
  open: async folder =>
    asFile(join(folder, 'out.checkpoint.safetensors'), async path => {
      const read = await readCheckpoint(path, recipe, { parameters: [], moments: [] });
      promised(
        read !== undefined && [read.steps, read.heldOut].every(Array.isArray),
        'a state without steps',
      );
    }),
};
