import { formatBytes } from '../engine/format.js';
import { RmError } from '../engine/index.js';
import { HEADROOM, type Placement, placements } from './memoryParts.js';
import { type PlannedMemory, plannedMemory } from './memoryPlan.js';
import type { MemorySizes } from './memorySteps.js';

/** Fewer tokens at a time are not proposed. */
const LEAST_BATCH = 64;

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
  const words = hindrances.map(({ what }) => what).join(' and ');
  throw new RmError(
    'OUT_OF_MEMORY',
    allowed
      ? `the run needs ${formatBytes(needed)} of device memory at the least, ${limit} are allowed`
      : `the run needs ${formatBytes(needed)} with all weights on the device, ${limit} are allowed; layer by layer it needs ${formatBytes(least(sizes, true))}, but ${words}`,
    [...remedies(), `raise --memory-limit to ${formatBytes(HEADROOM * needed)}${withLess()}`]
      .join('; or ')
      .replace(/^r/, 'R')
      .concat(', or use a device with more memory.'),
  );

  /** Tokens at a time with which it would fit, `sizes.batchTokens` at the most. */
  function fittingBatch(layers: boolean): number | undefined {
    const { batchTokens: usual } = sizes;
    for (let batchTokens = usual; batchTokens === usual || batchTokens >= LEAST_BATCH; ) {
      if (least({ ...sizes, batchTokens }, layers) * HEADROOM <= memoryLimit) return batchTokens;
      batchTokens = Math.floor(batchTokens / 2);
    }
    return undefined;
  }

  /** Options that would make it fit. */
  function remedies(): string[] {
    const found: string[] = [];
    const batch = fittingBatch(allowed);
    if (batch !== undefined) found.push(`Use --batch-tokens ${batch}`);
    const streamed = allowed ? undefined : fittingBatch(true);
    if (streamed !== undefined) {
      const less = streamed < sizes.batchTokens ? `, with --batch-tokens ${streamed}` : '';
      found.push(`${hindrances.map(({ fix }) => fix).join(', ')}${less}`);
    }
    return found;
  }

  /** What the limit may be with fewer tokens at a time, where that alone does not suffice. */
  function withLess(): string {
    const batchTokens = Math.min(LEAST_BATCH, sizes.batchTokens);
    const less = HEADROOM * least({ ...sizes, batchTokens }, allowed);
    return less > memoryLimit && less < 0.9 * HEADROOM * needed
      ? ` (${formatBytes(less)} with --batch-tokens ${batchTokens})`
      : '';
  }
}
