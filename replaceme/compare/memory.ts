import type { Device } from '../../engine/index.js';
import type { LoadOptions, StatePlacement } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { choiceWith, choosePlacement, leastBytes } from '../planning/choosePlacement.js';
import { offloadOf } from '../planning/loadPlanned.js';
import { HEADROOM, type Placement } from '../planning/memoryParts.js';
import type { MemorySizes } from '../planning/memorySteps.js';
import { fallbackSelection, hindrances, memorySizes } from '../planning/plan.js';
import type { PruneRequest } from '../request/request.js';

/** The memory of a row. */
export interface RowPlan {
  /** Where layers are offloaded, perhaps with another selection. */
  readonly request: PruneRequest;
  /** Where its hidden states are kept. */
  readonly placement: StatePlacement;
  /** Peak bytes, and the part of them that only speeds up the selection of windows. */
  readonly bytes: number;
  readonly spareBytes: number;
}

/** How the rows of a comparison fit the device. */
export interface ComparisonPlan {
  readonly offload: LoadOptions['offload'];
  /** By request; a text says why a row cannot be made. */
  readonly rows: ReadonlyMap<PruneRequest, RowPlan | string>;
}

/**
 * Plans all rows, which share one loaded model: whole where all of them fit so, else layer by layer. Counts the outputs of
 * the original model that all rows are measured against, but not the hidden states that all rows share.
 *
 * @throws RmError OUT_OF_MEMORY where a row does not fit, naming the settings that would make the one fit that needs most.
 */
export async function planRows(
  from: string,
  shared: PruneOptions,
  requests: readonly PruneRequest[],
  device: Device,
): Promise<ComparisonPlan> {
  const sizesOf = async (request: PruneRequest) => {
    const sizes = await memorySizes(from, { ...shared, report: 'full' }, request, device);
    return { ...sizes, selecting: { ...sizes.selecting, kept: 0 }, besides: 0 };
  };
  const whole: Row[] = [];
  for (const request of requests) {
    const sizes = await sizesOf(request);
    // The host keeps these outputs where the model is not on the device.
    const besides = 4 * request.arch.hidden * sizes.evaluationTokens;
    whole.push({ asked: request, request, sizes: { ...sizes, besides } });
  }
  const fitting = fit(whole, 'device');
  if (fitting) return { offload: offloadOf({ weights: 'device' }), rows: fitting };
  const streamed: Row[] = [];
  const refused = new Map<PruneRequest, string>();
  for (const asked of requests) {
    const request = layerByLayer(asked, shared);
    if (typeof request === 'string') refused.set(asked, request);
    else streamed.push({ asked, request, sizes: await sizesOf(request) });
  }
  for (const weights of ['streamed', 'one by one'] as const) {
    const rows = fit(streamed, weights);
    if (rows)
      return {
        offload: offloadOf({ weights }),
        rows: new Map<PruneRequest, RowPlan | string>([...rows, ...refused]),
      };
  }
  const [largest] = streamed
    .map(({ sizes }) => sizes)
    .sort((a, b) => leastBytes(b, true) - leastBytes(a, true));
  choosePlacement(largest!, []);
  throw new Error('each of the rows fits, and all of them do not');
}

/** A row to plan: what was asked for, and as it runs. */
interface Row {
  readonly asked: PruneRequest;
  readonly request: PruneRequest;
  readonly sizes: MemorySizes;
}

/** The plans of rows with such weights; undefined where one of them does not fit. */
function fit(rows: readonly Row[], weights: Placement['weights']): Map<PruneRequest, RowPlan> | undefined {
  const plans = new Map<PruneRequest, RowPlan>();
  for (const { asked, request, sizes } of rows) {
    const choice = choiceWith(sizes, [weights]);
    if (!choice) return undefined;
    const { placement, memory } = choice;
    plans.set(asked, {
      ...{ request, placement: placement.states },
      ...{ bytes: memory.total, spareBytes: memory.selectionSpare },
    });
  }
  return plans;
}

/** The request as it runs layer by layer, or why it cannot. */
function layerByLayer(request: PruneRequest, shared: PruneOptions): PruneRequest | string {
  const selection = fallbackSelection(request, shared) ?? request.selection;
  const [hindrance] = hindrances({ ...request, selection }, shared);
  return hindrance
    ? `the model's layers go to the device in turn, and ${hindrance.what}`
    : { ...request, selection };
}

/** Bytes for each of two kinds of states kept for speed, beside the row that needs most. */
export function sharedRoom({ rows }: ComparisonPlan, { memory }: Device): number {
  const needed = Math.max(0, ...[...rows.values()].map(row => (typeof row === 'string' ? 0 : row.bytes)));
  return Math.max(0, memory.limit / HEADROOM - needed) / 2;
}
