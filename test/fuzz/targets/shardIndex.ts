import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { inspectModel } from '../../../model/source/inspectModel.js';
import { writeTinyModel } from '../../tinyModel.js';
import { asFile } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';

const INDEX = 'model.safetensors.index.json';
const shard = (i: number) => `model-0000${i}-of-00003.safetensors`;
/** The three shards are there in every case; only the index changes. */
const writeShards = (folder: string) => writeTinyModel(folder, { maxShardBytes: 60_000 });

/** model.safetensors.index.json beside its shards. */
export const target: Target = {
  corpus: async folder => {
    await writeShards(folder);
    return [new Uint8Array(readFileSync(join(folder, INDEX)))];
  },
  mutate: jsonMutator([
    'weight_map',
    'metadata',
    'total_size',
    shard(1),
    shard(2),
    '../model.safetensors',
    'config.json',
  ]),
  open: async folder => {
    await writeShards(folder);
    return asFile(join(folder, INDEX), () => inspectModel(folder));
  },
};
