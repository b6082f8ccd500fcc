import { checkArguments, RmError } from '../../engine/index.js';
import type { Architecture } from '../architecture/architecture.js';
import { aPath } from '../arguments/forms.js';
import { type ModelSource, requiredJsonOf } from '../checkpoint/modelSource.js';
import { architectureFromConfig, unknownFields } from '../families/index.js';
import { openModelSource } from './openModelSource.js';
import { withStoredHead } from './storedHead.js';

/**
 * Reads a model's architecture from its config.json, and from the names of its tensors where config.json leaves a choice.
 * Throws what architectureFromConfig throws; CHECKPOINT_MISSING; UNSUPPORTED_FAMILY for a folder with an adapter.
 */
export async function readArchitecture(model: string): Promise<Architecture> {
  checkArguments('readArchitecture', { model }, { model: aPath });
  const source = await openModelSource(model);
  const config = await requiredJsonOf(source, 'config.json');
  await refuseAdapter(source);
  // Whoever reads the weights reports what is wrong with them.
  const checkpoint = await source.openCheckpoint().catch(() => undefined);
  try {
    const has = checkpoint && ((name: string) => checkpoint.has(name));
    const path = source.nameOf('config.json');
    const arch = architectureFromConfig(config, path, has);
    refuseUnknownFields(config, path);
    return checkpoint ? await withStoredHead(arch, source, checkpoint) : arch;
  } finally {
    await checkpoint?.close();
  }
}

function refuseUnknownFields(config: unknown, path: string): void {
  const [field, ...others] = unknownFields(config, path).changing;
  if (field === undefined) return;
  const all = others.length === 0 ? `"${field}" is` : `"${[field, ...others].join('", "')}" are`;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `${path}: ${all} not known in this family, and may change what the model computes`,
    'If transformers computes the same without, remove it from config.json; else choose another model.',
  );
}

/** transformers adds the adapter that it finds in a model's folder to the model. */
async function refuseAdapter(source: ModelSource): Promise<void> {
  const file = 'adapter_config.json';
  if ((await source.text(file)) === undefined) return;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `${source.nameOf(file)}: the folder holds an adapter (LoRA), which transformers adds to the model`,
    'Merge it first (peft: model.merge_and_unload().save_pretrained(folder)); if the weights are merged already, move this file out of the folder.',
  );
}
