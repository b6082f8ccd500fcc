import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { isComputedBuffer, isStoredConstant } from '../architecture/computedBuffers.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { isZero } from '../checkpoint/compareTensors.js';

/** The half of a LoRA pair without which the other does nothing. */
const otherHalf = (name: string): string => name.replace(/(lora_(?:embedding_)?)A\b/, '$1B');

/** Whether a tensor belongs to the part of the checkpoint that this program computes; a wrapper holds others (eyes, texts). */
function ownPart({ tensorNames, configPath, vision }: Architecture): (name: string) => boolean {
  if (configPath.length === 0 && !vision) return () => true;
  const { layerPrefix, ownHead } = tensorNames;
  const own = [layerPrefix.replace(/(encoder\.)?\w+\.$/, ''), ownHead.replace(/weight$/, '')];
  return name => own.some(prefix => name.startsWith(prefix));
}

/**
 * Tensors of a model that config.json does not mention and that nothing reads, although they are not zero: biases, norms,
 * other heads, layers beyond the last. Leaves out buffers that loaders compute, and a copy of the embedding as head.
 */
export async function unreadTensors(arch: Architecture, checkpoint: Checkpoint): Promise<string[]> {
  const read = new Set(expectedTensors(arch).map(({ name }) => name));
  const isOwn = ownPart(arch);
  const unread: string[] = [];
  for (const name of checkpoint.names) {
    if (read.has(name) || isComputedBuffer(name) || isStoredConstant(name) || !isOwn(name)) continue;
    if (arch.tiedEmbeddings && name === arch.tensorNames.ownHead) continue;
    const half = otherHalf(name);
    const silent =
      (await isZero(checkpoint, name)) ||
      (half !== name && checkpoint.has(half) && (await isZero(checkpoint, half)));
    if (!silent) unread.push(name);
  }
  return unread;
}
