import { formatBytes, RmError } from '../../engine/index.js';
import { batchOptions, HEADROOM, type Placement, placements, smallerBatches } from './memoryParts.js';
import { type PlannedMemory, plannedMemory } from './memoryPlan.js';
import type { MemorySizes } from './memorySteps.js';

/** A reason why a request cannot run layer by layer, and what to do about it. */
export interface Hindrance {
  readonly what: string;
  readonly fix: string;
}

/** A placement and the memory it needs. */
export interface PlacementChoice {
  readonly placement: Placement;
  readonly memory: PlannedMemory;
}

const choices = (sizes: MemorySizes): PlacementChoice[] =>
  placements(sizes.hostStates).map(placement => ({ placement, memory: plannedMemory(sizes, placement) }));

/** The first placement with such weights that fits; undefined where none does. */
export const choiceWith = (
  sizes: MemorySizes,
  weights: readonly Placement['weights'][],
): PlacementChoice | undefined =>
  choices(sizes).find(
    ({ placement, memory }) =>
      weights.includes(placement.weights) && HEADROOM * memory.total <= sizes.memoryLimit,
  );

/**
 * The first placement that fits. It gives up hidden states kept for speed first, then moves all hidden states to the host,
 * then offloads layers.
 *
 * @param hindrances reasons that rule out offloading.
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
    [...findRemedies(), `raise \`memoryLimit\` to ${formatBytes(HEADROOM * needed)}${withLess()}`]
      .join('; or ')
      .replace(/^r/, 'R')
      .concat(', or use a device with more memory.'),
  );

  /** The settings of the largest batches that fit; '' where the present ones do. */
  function fittingBatch(layers: boolean): string | undefined {
    const fitting = [sizes, ...smaller].find(of => least(of, layers) * HEADROOM <= memoryLimit);
    return fitting && batchOptions(sizes, fitting);
  }

  /** Settings that would make the run fit. */
  function findRemedies(): string[] {
    const remedies: string[] = [];
    const batch = fittingBatch(allowed);
    if (batch !== undefined) remedies.push(`Use ${batch}`);
    const streamed = allowed ? undefined : fittingBatch(true);
    if (streamed !== undefined) {
      remedies.push(
        [...hindrances.map(({ fix }) => fix), ...(streamed ? [`with ${streamed}`] : [])].join(', '),
      );
    }
    return remedies;
  }

  /** The lower limit that smaller batches would allow, where they alone do not make the run fit. */
  function withLess(): string {
    const smallest = smaller.at(-1);
    if (!smallest) return '';
    const less = HEADROOM * least(smallest, allowed);
    return less > memoryLimit && less < 0.9 * HEADROOM * needed
      ? ` (${formatBytes(less)} with ${batchOptions(sizes, smallest)})`
      : '';
  }
}
