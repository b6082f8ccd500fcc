/** Neurons of an MLP on the host, one after the other in each list. */
export interface Neurons {
  readonly count: number;
  /** Rows [count, hidden] of gate_proj, in an MLP that has one. */
  readonly gate?: Float32Array;
  /** Rows [count, hidden] of up_proj. */
  readonly up: Float32Array;
  /** Columns of down_proj as rows [count, hidden]. */
  readonly down: Float32Array;
  /** Biases [count], in a model that has them. */
  readonly gateBias?: Float32Array;
  readonly upBias?: Float32Array;
}

const lists = ['gate', 'up', 'down', 'gateBias', 'upBias'] as const;

/** A neuron of some list. */
export interface Pick {
  readonly from: Neurons;
  readonly index: number;
}

/** The picked neurons in a list of their own. */
export function pickedNeurons(picks: readonly Pick[]): Neurons {
  const gathered = lists.flatMap(name => {
    const width = (picks[0]?.from[name]?.length ?? 0) / (picks[0]?.from.count ?? 1);
    if (width === 0) return [];
    const values = new Float32Array(picks.length * width);
    for (const [at, { from, index }] of picks.entries()) {
      values.set(from[name]!.subarray(index * width, (index + 1) * width), at * width);
    }
    return [[name, values] as const];
  });
  const { up, down, ...others } = Object.fromEntries(gathered) as Record<
    (typeof lists)[number],
    Float32Array
  >;
  return { up, down, ...others, count: picks.length };
}

/** Where a neuron comes from, and how much it adds to the residual stream. */
interface Rank {
  readonly layer: number;
  readonly energy: number;
}

/** The neurons with the most energy, in descending order. */
export interface BestNeurons extends Neurons {
  readonly ranks: readonly Rank[];
}

/** The best of `earlier` and of a layer's neurons with these energies, as many as there is `room` for. */
export function bestNeurons(
  earlier: BestNeurons | undefined,
  { layer, neurons, energies }: { layer: number; neurons: Neurons; energies: Float32Array },
  room: number,
): BestNeurons {
  const ranked = (from: Neurons, ranks: readonly Rank[]) =>
    ranks.map((rank, index) => ({ from, index, rank }));
  const fresh = Array.from(energies, energy => ({ layer, energy }));
  // The sort is stable: of equal energies the earlier layer stays.
  const chosen = [...(earlier ? ranked(earlier, earlier.ranks) : []), ...ranked(neurons, fresh)]
    .sort((a, b) => b.rank.energy - a.rank.energy)
    .slice(0, room);
  return { ...pickedNeurons(chosen), ranks: chosen.map(({ rank }) => rank) };
}
