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

/** Room that is filled to the brim is not exceeded by what rounding adds. */
const fitsDevice = ({ device }: MemorySizes, { total }: PlannedMemory): boolean =>
  HEADROOM * total <= device.memory.limit + 1;

/** Bytes that a plan takes of the host's memory, which may be the device's too. */
const onHost = ({ device }: MemorySizes, { total, host, staging }: PlannedMemory): number =>
  host + staging + (device.host.shared ? total : 0);

const fitsHost = (sizes: MemorySizes, memory: PlannedMemory): boolean =>
  HEADROOM * onHost(sizes, memory) <= sizes.device.host.free;

/** The first placement with such weights that fits; undefined where none does. */
export const choiceWith = (
  sizes: MemorySizes,
  weights: readonly Placement['weights'][],
): PlacementChoice | undefined =>
  choices(sizes).find(
    ({ placement, memory }) =>
      weights.includes(placement.weights) && fitsDevice(sizes, memory) && fitsHost(sizes, memory),
  );

/** The least device memory that a run needs, whole or, with `layers`, layer by layer. */
export const leastBytes = (sizes: MemorySizes, layers: boolean): number =>
  HEADROOM *
  Math.min(
    ...choices(sizes)
      .filter(({ placement }) => layers || placement.weights === 'device')
      .map(({ memory }) => memory.total),
  );

/**
 * The first placement that fits. It gives up hidden states kept for speed first, then moves all hidden states to the host,
 * then offloads layers.
 *
 * @param hindrances reasons that rule out offloading.
 * @throws RmError OUT_OF_MEMORY where none fits, with the option that would make it fit.
 */
export function choosePlacement(sizes: MemorySizes, hindrances: readonly Hindrance[]): PlacementChoice {
  const memoryLimit = sizes.device.memory.limit;
  const allowed = hindrances.length === 0;
  const fitting = choiceWith(sizes, allowed ? ['device', 'streamed', 'one by one'] : ['device']);
  if (fitting) return fitting;
  const short = choices(sizes).find(
    ({ placement, memory }) => (allowed || placement.weights === 'device') && fitsDevice(sizes, memory),
  );
  if (short) throw hostTooSmall(sizes, short);
  const limit = formatBytes(memoryLimit);
  const needed = leastBytes(sizes, allowed);
  const smaller = smallerBatches(sizes, sizes.request.arch);
  const words = hindrances.map(({ what }) => what).join(' and ');
  throw new RmError(
    'OUT_OF_MEMORY',
    allowed
      ? `the run needs ${formatBytes(needed)} of device memory at the least, ${limit} are allowed`
      : `the run needs ${formatBytes(needed)} with all weights on the device, ${limit} are allowed; layer by layer it needs ${formatBytes(leastBytes(sizes, true))}, but ${words}`,
    [...findRemedies(), `raise \`memoryLimit\` to ${formatBytes(needed)}${withLess()}`]
      .join('; or ')
      .replace(/^r/, 'R')
      .concat(', or use a device with more memory.'),
  );

  /** The settings of the largest batches that fit; '' where the present ones do. */
  function fittingBatch(layers: boolean): string | undefined {
    const fitting = [sizes, ...smaller].find(of => leastBytes(of, layers) <= memoryLimit);
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
    const less = leastBytes(smallest, allowed);
    return less > memoryLimit && less < 0.9 * needed
      ? ` (${formatBytes(less)} with ${batchOptions(sizes, smallest)})`
      : '';
  }
}

/** The device has room for this placement, the host has not: says with numbers what would make it fit. */
function hostTooSmall(sizes: MemorySizes, { placement, memory }: PlacementChoice): RmError {
  const { device, tokens, hostStates } = sizes;
  const { free, shared } = device.host;
  const needed = (of: MemorySizes) => onHost(of, plannedMemory(of, placement));
  const remedies: string[] = [];
  const narrow: MemorySizes = { ...sizes, hostStates: 'bf16' };
  const halved = { ...placement, states: { ...placement.states, dtype: 'bf16' as const } };
  if (memory.host > 0 && hostStates === 'f32') {
    const less = onHost(narrow, plannedMemory(narrow, halved));
    if (HEADROOM * less <= free) remedies.push(`\`hostStates: bf16\` (${formatBytes(less)})`);
  }
  let fewer = tokens;
  while (
    fewer > 1 &&
    HEADROOM * needed({ ...sizes, tokens: fewer, rankedTokens: Math.min(sizes.rankedTokens, fewer) }) > free
  ) {
    fewer = Math.floor(0.9 * fewer);
  }
  if (fewer > 1 && fewer < tokens) remedies.push(`\`tokens: ${fewer}\``);
  const what =
    memory.host > 0 ? `, ${formatBytes(memory.host)} of it for the hidden states of ${tokens} tokens` : '';
  return new RmError(
    'OUT_OF_MEMORY',
    `the run needs ${formatBytes(onHost(sizes, memory))} of host memory${shared ? ', which the device shares' : ''}${what}; ${formatBytes(free)} are free`,
    remedies.length > 0
      ? `Use ${remedies.join(' or ')}, or free memory of the host (or raise the container's limit).`
      : "Free memory of the host, raise the container's limit, or use a machine with more.",
  );
}
