import type { Device } from '../../engine/index.js';
import {
  type Architecture,
  cacheBytes,
  defaultBatchTokens,
  type LoadOptions,
  openCheckpoint,
  readArchitecture,
} from '../../model/index.js';
import { offloadOf } from './loadPlanned.js';
import {
  activationBytes,
  HEADROOM,
  heldBytes,
  type Placement,
  type WeightSizes,
  weightSizes,
} from './memoryParts.js';

interface Sized {
  readonly arch: Architecture;
  readonly sizes: WeightSizes;
}

/** Columns of the logits that are computed at a time. */
const LOGIT_COLUMNS = 16384;

async function sizesOf(path: string, positions: number): Promise<Sized> {
  const arch = await readArchitecture(path);
  const checkpoint = await openCheckpoint(path);
  try {
    return { arch, sizes: weightSizes(arch, checkpoint, positions) };
  } finally {
    await checkpoint.close();
  }
}

/**
 * How models that are evaluated together are loaded: whole where they fit the memory limit, else layer by layer, the
 * first model first.
 *
 * @param sequenceLength tokens of the longest sequence.
 * @param cachedTokens tokens whose keys and values are kept at a time, where the models write texts (default 0).
 */
export async function placeModels(
  device: Device,
  paths: readonly string[],
  {
    sequenceLength,
    batchTokens,
    cachedTokens = 0,
  }: {
    readonly sequenceLength: number;
    readonly batchTokens?: number | undefined;
    readonly cachedTokens?: number;
  },
): Promise<LoadOptions['offload'][]> {
  const models = await Promise.all(paths.map(path => sizesOf(path, sequenceLength)));
  const passing = Math.max(
    ...models.map(({ arch }) => {
      const tokens = Math.max(sequenceLength, batchTokens ?? defaultBatchTokens(device, arch));
      const { vocab } = arch;
      const cached = cachedTokens > 0 ? cacheBytes(arch, cachedTokens) : 0;
      return activationBytes(arch, tokens, 6, 3) + 8 * tokens * Math.min(vocab, LOGIT_COLUMNS) + cached;
    }),
  );
  const fits = (weights: readonly Placement['weights'][]) => {
    const held = models.map(({ arch, sizes }, i) => heldBytes(sizes, weights[i]!, arch.layers)(2));
    return HEADROOM * held.reduce((sum, bytes) => sum + bytes, passing) <= device.memory.limit;
  };
  const all = (weights: Placement['weights']) => models.map(() => weights);
  const choices: Placement['weights'][][] = [
    all('device'),
    ...models.map((_, i) => models.map((_, j): Placement['weights'] => (j <= i ? 'streamed' : 'device'))),
  ];
  const chosen = choices.find(fits) ?? all('one by one');
  return chosen.map(weights => offloadOf({ weights }));
}
