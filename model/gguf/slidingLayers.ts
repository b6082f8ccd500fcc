import type { GgufFamily } from './family.js';
import type { GgufMetadata } from './metadata.js';

/** After "<architecture>.": a flag for each layer, or all but each so-many-th slide. Newer files may have it. */
const SLIDING_PATTERN = 'attention.sliding_window_pattern';
export const SLIDING_WINDOW = 'attention.sliding_window';

/** Which layers slide by llama.cpp's rule. */
const slidingByRule = (every: number, layers: number): boolean[] =>
  Array.from({ length: layers }, (_, layer) => layer % every < every - 1);

/** Which layers of a file slide, and how far they look back; undefined for a family whose layers do not. */
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
