import { formatBytes, RmError } from '../../engine/index.js';
import { batchOptions, HEADROOM, type Placement, placements, smallerBatches } from './memoryParts.js';
import { type PlannedMemory, plannedMemory } from './memoryPlan.js';
import type { MemorySizes } from './memorySteps.js';

/** What keeps a request from running layer by layer: the words for it, and what to do. */
export interface Hindrance {
  readonly what: string;
  readonly fix: string;
}

/** What a run would take. */
export interface PlacementChoice {
  readonly placement: Placement;
  readonly memory: PlannedMemory;
}

const choices = (sizes: MemorySizes): PlacementChoice[] =>
  placements(sizes.hostStates).map(placement => ({ placement, memory: plannedMemory(sizes, placement) }));

/** The first that fits of those that place the weights so; undefined where none does. */
export const choiceWith = (
  sizes: MemorySizes,
  weights: readonly Placement['weights'][],
): PlacementChoice | undefined =>
  choices(sizes).find(
    ({ placement, memory }) =>
      weights.includes(placement.weights) && HEADROOM * memory.total <= sizes.memoryLimit,
  );

/**
 * The first placement that fits: hidden states that are kept for speed are given up first, then all hidden states go to
 * the host, then layers are streamed.
 *
 * @param hindrances what rules streaming out.
 * @throws RmError OUT_OF_MEMORY where none fits, with the option that would make it fit.
 */
export function choosePlacement(sizes: MemorySizes, hindrances: readonly Hindrance[]): PlacementChoice {
  const { memoryLimit } = sizes;
  const allowed = hindrances.length === 0;
  const fitting = choiceWith(sizes, allowed ? ['device', 'streamed', 'one by one'] : ['device']);
  if (fitting) return fitting;
  const least = (of: MemorySizes, layers: boolean) =>
    Math.min(
      ...choices(of)
        .filter(({ placement }) => layers || placement.weights === 'device')
        .map(({ memory }) => memory.total),
    );
  const limit = formatBytes(memoryLimit);
  const needed = least(sizes, allowed);
  const smaller = smallerBatches(sizes, sizes.request.arch);
  const words = hindrances.map(({ what }) => what).join(' and ');
  throw new RmError(
    'OUT_OF_MEMORY',
    allowed
      ? `the run needs ${formatBytes(needed)} of device memory at the least, ${limit} are allowed`
      : `the run needs ${formatBytes(needed)} with all weights on the device, ${limit} are allowed; layer by layer it needs ${formatBytes(least(sizes, true))}, but ${words}`,
    [...remedies(), `raise \`memoryLimit\` to ${formatBytes(HEADROOM * needed)}${withLess()}`]
      .join('; or ')
      .replace(/^r/, 'R')
      .concat(', or use a device with more memory.'),
  );

  /** With the largest batches that would fit; '' where all do. */
  function fittingBatch(layers: boolean): string | undefined {
    const found = [sizes, ...smaller].find(of => least(of, layers) * HEADROOM <= memoryLimit);
    return found && batchOptions(sizes, found);
  }

  /** Options that would make it fit. */
  function remedies(): string[] {
    const found: string[] = [];
    const batch = fittingBatch(allowed);
    if (batch !== undefined) found.push(`Use ${batch}`);
    const streamed = allowed ? undefined : fittingBatch(true);
    if (streamed !== undefined) {
      found.push([...hindrances.map(({ fix }) => fix), ...(streamed ? [`with ${streamed}`] : [])].join(', '));
    }
    return found;
  }

  /** What the limit may be with fewer tokens at a time, where that alone does not suffice. */
  function withLess(): string {
    const smallest = smaller.at(-1);
    if (!smallest) return '';
    const less = HEADROOM * least(smallest, allowed);
    return less > memoryLimit && less < 0.9 * HEADROOM * needed
      ? ` (${formatBytes(less)} with ${batchOptions(sizes, smallest)})`
      : '';
  }
}
