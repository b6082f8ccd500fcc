import { lastRemoved, type Window } from '../run/window.js';

export interface WindowSet {
  /** Ascending; no two are adjacent. */
  readonly windows: readonly Window[];
  /** Sum of the windows' costs. */
  readonly cost: number;
}

interface WindowSetOptions {
  /** Layers of the model. */
  readonly layers: number;
  /** Layers to remove. */
  readonly count: number;
  /** Fewest and most windows of a set (default 1 and 4). */
  readonly fewest?: number;
  readonly most?: number;
  /** Sets to return (default 1). */
  readonly best?: number;
}

/**
 * The cheapest sets of windows, assuming that costs add up, by dynamic programming over (layer, layers left to remove,
 * windows left): layers² * count * most * best steps at most. At least one layer stays between two windows; adjacent
 * windows would be one window with its own cost.
 *
 * Source: the cost of removed intervals adds up nearly (pruning.md 4.1 F); ROCKET's knapsack is kin.
 *
 * @param cost of the window (i, n), called once for each; infinity forbids it.
 */
export function proposeWindowSets(
  cost: (layer: number, count: number) => number,
  { layers, count, fewest = 1, most = 4, best = 1 }: WindowSetOptions,
): WindowSet[] {
  /** By windows left, then by layers left to remove: the best sets among the later layers. */
  type Sets = readonly (readonly (readonly WindowSet[])[])[];
  const none = Array.from({ length: count + 1 }, () => [] as WindowSet[]);
  const empty = none.map((sets, left) => (left === 0 ? [{ windows: [], cost: 0 }] : sets));
  const bottom: Sets = Array.from({ length: most + 1 }, (_, windows) => (windows === 0 ? empty : none));
  const after: Sets[] = new Array(layers + 1).fill(bottom);
  for (let layer = layers - 2; layer >= 0; layer--) {
    const costs = Array.from({ length: Math.min(count, layers - 1 - layer) }, (_, i) => cost(layer, i + 1));
    after[layer] = bottom.map((_, windows) => {
      if (windows === 0) return empty;
      return none.map((_, left) => {
        const sets = [...after[layer + 1]![windows]![left]!];
        for (let n = 1; n <= Math.min(left, costs.length); n++) {
          const window = { layer, count: n };
          if (!Number.isFinite(costs[n - 1]!)) continue;
          for (const rest of after[lastRemoved(window) + 1]![windows - 1]![left - n]!) {
            sets.push({ windows: [window, ...rest.windows], cost: costs[n - 1]! + rest.cost });
          }
        }
        return sets.sort((a, b) => a.cost - b.cost).slice(0, best);
      });
    });
  }
  return after[0]!
    .slice(fewest)
    .flatMap(byLeft => byLeft[count]!)
    .sort((a, b) => a.cost - b.cost)
    .slice(0, best);
}
