import type { GgufFamily } from './family.js';
import type { GgufMetadata } from './metadata.js';

/** Newer files may contain this after "<architecture>.": a flag per layer, or n if all but every n-th layer slide. */
const SLIDING_PATTERN = 'attention.sliding_window_pattern';
export const SLIDING_WINDOW = 'attention.sliding_window';

/** llama.cpp's rule for which layers slide. */
const slidingByRule = (every: number, layers: number): boolean[] =>
  Array.from({ length: layers }, (_, layer) => layer % every < every - 1);

/** Which layers of a file slide, and their window; undefined for a family without sliding layers. */
export function slidingLayers(
  metadata: GgufMetadata,
  { architecture, sliding }: GgufFamily,
  layers: number,
): { slides: boolean[]; window: number | undefined } | undefined {
  if (!sliding) return undefined;
  const stated = metadata.number(`${architecture}.${SLIDING_WINDOW}`) ?? sliding.window ?? 0;
  if (stated === 0) return { slides: new Array<boolean>(layers).fill(false), window: undefined };
  const window = metadata.count(`${architecture}.${SLIDING_WINDOW}`) ?? stated;
  const key = `${architecture}.${SLIDING_PATTERN}`;
  const listed = metadata.get(key)?.type === 'array';
  const slides = listed
    ? metadata.flags(key, layers)
    : slidingByRule(metadata.count(key) ?? sliding.every, layers);
  return { slides, window };
}
