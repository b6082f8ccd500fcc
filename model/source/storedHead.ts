import { stat } from 'node:fs/promises';
import type { Architecture } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { sameValues } from '../checkpoint/compareTensors.js';
import type { ModelSource } from '../checkpoint/modelSource.js';

/** Comparisons so far in this process, by the state of the weight files: an equal copy is read to its end. */
const compared = new Map<string, Promise<boolean>>();

async function equalsEmbedding(
  source: ModelSource,
  checkpoint: Checkpoint,
  { embedding, ownHead }: Architecture['tensorNames'],
): Promise<boolean> {
  const stats = await Promise.all((await source.weightFiles()).map(path => stat(path)));
  const key = JSON.stringify([checkpoint.path, ...stats.map(({ size, mtimeMs }) => [size, mtimeMs])]);
  const earlier = compared.get(key);
  if (earlier) return earlier;
  const result = sameValues(checkpoint, embedding, ownHead);
  compared.set(key, result);
  return result;
}

/**
 * The architecture with the head that transformers gives the model. Where config.json ties it to the embedding and the
 * checkpoint stores a head too, the head counts if its numbers differ; where only the head is stored, it is the embedding.
 *
 * Source: PreTrainedModel.tie_weights of transformers 5.
 */
export async function withStoredHead(
  arch: Architecture,
  source: ModelSource,
  checkpoint: Checkpoint,
): Promise<Architecture> {
  const { tiedEmbeddings, vision, tensorNames } = arch;
  const { ownHead, embedding } = tensorNames;
  if (vision || !tiedEmbeddings || !checkpoint.has(ownHead)) return arch;
  if (!checkpoint.has(embedding)) {
    return { ...arch, tensorNames: { ...tensorNames, embedding: ownHead, lmHead: ownHead } };
  }
  if (await equalsEmbedding(source, checkpoint, tensorNames)) return arch;
  return { ...arch, tiedEmbeddings: false, tensorNames: { ...tensorNames, lmHead: ownHead } };
}
