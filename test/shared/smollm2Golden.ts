import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Device } from '../../engine/index.js';
import { type Evaluation, evaluate, Model, ReferenceStates } from '../../model/index.js';
import { plainBatches } from '../replaceme/workplace.js';
import { sharedPath } from '../support.js';

/** The folder that shared/models/smollm2.py builds; .ci/run names it. */
export const smollm2 = process.env.RM_SMOLLM2;
export const golden = sharedPath('golden', 'smollm2');

export const readJson = <T>(name: string) => JSON.parse(readFileSync(join(golden!, name), 'utf8')) as T;

/** SmolLM2-135M on the device, with the token sequences on which the golden data was measured. */
export interface OpenedSmolLM2 {
  device: Device;
  model: Model;
  tokens: Record<string, number[][]>;
  batches: ReturnType<typeof plainBatches>;
  /** Measures a pruned copy against the model, whose states of these sequences are computed once. */
  evaluate(pruned: Model, set: string): Promise<Required<Evaluation>>;
  close(): Promise<void>;
}

/** Bytes for states between the layers: a pruned copy starts before the cut. */
const stateBytes = 128 * 2 ** 20;

export async function openSmolLM2(): Promise<OpenedSmolLM2> {
  const device = await Device.open();
  const model = await Model.load(device, smollm2!);
  const tokens = readJson<Record<string, number[][]>>('tokens.json');
  const references = new Map<string, ReferenceStates>();
  const reference = async (set: string) => {
    const found = references.get(set) ?? (await ReferenceStates.of(model, tokens[set]!, { stateBytes }));
    references.set(set, found);
    return found;
  };
  return {
    ...{ device, model, tokens, batches: plainBatches(tokens.fit!, 1024) },
    async evaluate(pruned, set) {
      const against = await reference(set);
      return (await evaluate(pruned, tokens[set]!, { against })) as Required<Evaluation>;
    },
    async close() {
      for (const states of references.values()) states.dispose();
      model.dispose();
      await device.close();
    },
  };
}
