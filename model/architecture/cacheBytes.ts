import { type Architecture, storedHeadDim } from './architecture.js';
import { stateSizes } from './mixer.js';

/** Bytes of a token's keys and values in all layers with attention. */
export const tokenBytes = (arch: Architecture): number =>
  4 * 2 * arch.kvHeads * storedHeadDim(arch) * arch.linear.filter(mixer => !mixer).length;

/** Bytes that layers without attention keep of a sequence of any length. */
export function stateBytes(arch: Architecture): number {
  const numbers = arch.linear.flatMap(mixer => (mixer ? Object.values(stateSizes(arch, mixer)) : []));
  return 4 * numbers.reduce((sum, size) => sum + size, 0);
}

/** Bytes that a cache keeps of one sequence of `tokens` tokens. */
export const cacheBytes = (arch: Architecture, tokens: number): number =>
  tokens * tokenBytes(arch) + stateBytes(arch);
