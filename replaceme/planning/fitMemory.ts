import { sizeClass } from '../../engine/index.js';
import type { PruneRequest } from '../request/request.js';
import { isEarly } from '../run/window.js';

/** What a fit holds while it goes over the tokens, and what it needs besides when it solves. */
export interface FitBytes {
  readonly sums: number;
  readonly solve: number;
}

/** kernels/solveSpd: columns that estimate errors, and tensors of as many columns. */
const PROBES = 32;
const PROBE_TENSORS = 14;

/** G and C of two halves, in 48 bits twice; then the factor, the solution and a product. */
function ridgeBytes(inputs: number, outputs: number, words: 1 | 2 = 1): FitBytes {
  const [gram, cross] = [sizeClass(4 * inputs * inputs), sizeClass(4 * inputs * outputs)];
  return { sums: 2 * words * (gram + cross), solve: gram + 3 * cross };
}

/** Of the layer that stays before a cut, each fit after the other, over so many tokens. */
export function cutFits(
  { arch, method, settings, windows }: PruneRequest,
  tokens: number,
): readonly FitBytes[] {
  const { hidden, intermediate, layers, heads, headDim } = arch;
  const square = sizeClass(4 * hidden * hidden);
  switch (method.accumulates) {
    case 'outputs Gram': {
      // Right-hand side, factor and solution in 48 bits, and what estimates the error of the solution; the sums go before
      // both f32 copies of W_down come.
      const probes = PROBE_TENSORS * sizeClass(4 * PROBES * hidden);
      const fold = square + 2 * sizeClass(4 * hidden * intermediate);
      return [{ sums: 4 * square, solve: Math.max(6 * square + probes, fold - 4 * square) }];
    }
    case 'tokens':
      // M, what it is compared with, and both once more in the order of an epoch.
      return [{ sums: 4 * 3 * tokens * hidden, solve: 6 * square }];
    case 'features Gram': {
      const stepping = settings.attentionStep ?? (windows && isEarly(windows, layers) ? 0 : undefined);
      const attention = stepping === 0 ? [] : [ridgeBytes(heads * headDim, hidden, 2)];
      return [...attention, ridgeBytes(intermediate, hidden)];
    }
    default:
      return [];
  }
}

/** Of a layer that is healed. */
export const healingFits = ({
  arch: { hidden, intermediate, heads, headDim },
}: PruneRequest): readonly FitBytes[] => [
  ridgeBytes(heads * headDim, hidden),
  ridgeBytes(intermediate, hidden),
];
