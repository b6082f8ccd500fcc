import type { DamageBudget } from '../request/layerBudget.js';

/** How a pruned model compares with the original on held-out text. */
export interface LayerTrial {
  /** Removed layers. */
  readonly layers: number;
  /** Mean KL in nats, and the share of places with the same most likely token. */
  readonly kl: number;
  readonly top1: number;
}

/** Damage as a share of the budget: at most 1 where the budget is kept. */
export const usedShare = ({ kl, top1 }: Omit<LayerTrial, 'layers'>, budget: DamageBudget): number =>
  'maxKl' in budget ? kl / budget.maxKl : (1 - top1) / (1 - budget.keepTop1);

/** KL grows with about this power of the number of layers (docs/results.md), which guides the first tries. */
const POWER = 1.5;

/**
 * Finds the largest number of layers that a budget allows, with few tries: damage is taken to grow with the number of
 * layers, by a power that the tries correct.
 *
 * @param most the most layers that may go.
 * @param measure tries a number of layers.
 * @returns all tries by number of layers, and the largest number that keeps the budget (0 if none does).
 */
export async function searchLayers<T extends LayerTrial>(
  most: number,
  budget: DamageBudget,
  measure: (layers: number) => Promise<T>,
): Promise<{ readonly trials: readonly T[]; readonly layers: number }> {
  const trials: T[] = [];
  let allowed: T | undefined;
  let refused: T | undefined;
  for (;;) {
    const low = allowed?.layers ?? 0;
    const high = refused?.layers ?? most + 1;
    if (high - low <= 1) break;
    const guess = nextLayers(most, budget, allowed, refused);
    const trial = await measure(Math.min(high - 1, Math.max(low + 1, guess)));
    trials.push(trial);
    if (usedShare(trial, budget) <= 1) allowed = trial;
    else refused = trial;
  }
  trials.sort((a, b) => a.layers - b.layers);
  return { trials, layers: allowed?.layers ?? 0 };
}

/** The number of layers at which the budget is expected to be used up. */
function nextLayers(
  most: number,
  budget: DamageBudget,
  allowed: LayerTrial | undefined,
  refused: LayerTrial | undefined,
): number {
  const share = (trial: LayerTrial) => Math.max(1e-6, usedShare(trial, budget));
  if (allowed && refused) {
    const [a, r] = [Math.log(share(allowed)), Math.log(share(refused))];
    const at = allowed.layers + ((refused.layers - allowed.layers) * -a) / (r - a || 1);
    // A quarter of the numbers at least is ruled out by every try, whatever the curve.
    const margin = (refused.layers - allowed.layers) / 4;
    return Math.round(Math.min(refused.layers - margin, Math.max(allowed.layers + margin, at)));
  }
  const known = allowed ?? refused;
  if (!known) return Math.max(1, Math.round(most / 4));
  const expected = Math.floor(known.layers * share(known) ** (-1 / POWER));
  return allowed ? Math.min(2 * allowed.layers, expected) : expected;
}
