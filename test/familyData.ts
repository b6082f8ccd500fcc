import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readGolden } from './support.js';

const data = join(dirname(fileURLToPath(import.meta.url)), ...['..', '..', 'test', 'data']);
const folder = join(data, 'families');

/** A tiny model, and the logits that transformers gives for a sequence. */
export interface GoldenModel {
  readonly name: string;
  readonly folder: string;
  readonly ids: readonly number[];
  /** f64 [ids, vocab] */
  readonly logits: Float64Array;
  /** Layers that stay, and the logits of the model with only these. */
  readonly kept: readonly number[];
  readonly keptLogits: Float64Array;
  /** Those with the picture of test/python/image_inputs.py, of models that read pictures. */
  readonly keptImageLogits: Float64Array | undefined;
}

/** Tiny models of all families with what transformers makes of them; made by test/python/make_families.py. */
export interface FamilyData extends GoldenModel {
  /** Greedy tokens after the first ten ids. */
  readonly greedy: readonly number[];
}

export const familyNames: readonly string[] = readdirSync(folder).sort();

export async function familyData(name: string): Promise<FamilyData> {
  const golden = await readGolden(join(folder, name, 'golden.safetensors'));
  return { ...(await goldenLogits(folder, name)), greedy: [...golden.get('greedy')!.values] };
}

/** Tiny models whose files say two things, with what transformers makes of them; made by test/python/make_checkpoints.py. */
export const checkpointNames: readonly string[] = readdirSync(join(data, 'checkpoints')).sort();

export const checkpointData = (name: string): Promise<GoldenModel> =>
  goldenLogits(join(data, 'checkpoints'), name);

async function goldenLogits(place: string, name: string): Promise<GoldenModel> {
  const golden = await readGolden(join(place, name, 'golden.safetensors'));
  const values = (key: string) => golden.get(key)!.values;
  return {
    name,
    folder: join(place, name),
    ids: [...values('ids')],
    logits: values('logits'),
    kept: [...values('kept')],
    keptLogits: values('kept_logits'),
    keptImageLogits: golden.get('kept_image_logits')?.values,
  };
}
