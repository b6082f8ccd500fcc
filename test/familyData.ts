import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readGolden } from './support.js';

const folder = join(dirname(fileURLToPath(import.meta.url)), ...['..', '..', 'test', 'data', 'families']);

/** Tiny models of all families with what transformers makes of them; made by test/python/make_families.py. */
export interface FamilyData {
  readonly name: string;
  readonly folder: string;
  readonly ids: readonly number[];
  /** f64 [ids, vocab] */
  readonly logits: Float64Array;
  /** Greedy tokens after the first ten ids. */
  readonly greedy: readonly number[];
  /** Layers that stay, and the logits of the model with only these. */
  readonly kept: readonly number[];
  readonly keptLogits: Float64Array;
}

export const familyNames: readonly string[] = readdirSync(folder).sort();

export async function familyData(name: string): Promise<FamilyData> {
  const golden = await readGolden(join(folder, name, 'golden.safetensors'));
  const values = (key: string) => golden.get(key)!.values;
  return {
    name,
    folder: join(folder, name),
    ids: [...values('ids')],
    logits: values('logits'),
    greedy: [...values('greedy')],
    kept: [...values('kept')],
    keptLogits: values('kept_logits'),
  };
}
