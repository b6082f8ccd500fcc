import type { Architecture } from '../architecture/architecture.js';
import { requiredJsonOf } from '../checkpoint/modelSource.js';
import { architectureFromConfig } from '../families/index.js';
import { openModelSource } from './openModelSource.js';

/** Reads a model's architecture from its config.json. Throws what architectureFromConfig throws; CHECKPOINT_MISSING. */
export async function readArchitecture(model: string): Promise<Architecture> {
  const source = await openModelSource(model);
  const config = await requiredJsonOf(source, 'config.json');
  // Whoever reads the weights reports what is wrong with them.
  const checkpoint = await source.openCheckpoint().catch(() => undefined);
  try {
    const has = checkpoint && ((name: string) => checkpoint.has(name));
    return architectureFromConfig(config, source.nameOf('config.json'), has);
  } finally {
    await checkpoint?.close();
  }
}
