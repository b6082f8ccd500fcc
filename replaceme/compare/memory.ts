import type { Device } from '../../engine/index.js';
import type { LoadOptions, StatePlacement } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { choiceWith, choosePlacement, leastBytes } from '../planning/choosePlacement.js';
import { offloadOf } from '../planning/loadPlanned.js';
import { HEADROOM, type Placement } from '../planning/memoryParts.js';
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
 * @throws RmError OUT_OF_MEMORY where a row does not fit, for the one that needs most, naming the settings that would make it fit.
 */
export async function planRows(
  from: string,
  shared: PruneOptions,
  requests: readonly PruneRequest[],
  device: Device,
): Promise<ComparisonPlan> {
  const sizesOf = async (request: PruneRequest, weights: Placement['weights']) => {
    const sizes = await memorySizes(from, { ...shared, report: 'full' }, request, device);
    return {
      ...sizes,
      // What all rows share; the host keeps the outputs of a model that is not on the device.
      selecting: { ...sizes.selecting, kept: 0 },
      besides: weights === 'device' ? 4 * request.arch.hidden * sizes.evaluationTokens : 0,
    };
  };
  for (const weights of ['device', 'streamed', 'one by one'] as const) {
    const rows = new Map<PruneRequest, RowPlan | string>();
    for (const asked of requests) {
      const request = weights === 'device' ? asked : layerByLayer(asked, shared);
      if (typeof request === 'string') {
        rows.set(asked, request);
        continue;
      }
      const choice = choiceWith(await sizesOf(request, weights), [weights]);
      if (!choice) break;
      const { placement, memory } = choice;
      const { total: bytes, selectionSpare: spareBytes } = memory;
      rows.set(asked, { request, placement: placement.states, bytes, spareBytes });
    }
    if (rows.size === requests.length) return { offload: offloadOf({ weights }), rows };
  }
  const streamed = requests
    .map(request => layerByLayer(request, shared))
    .filter(request => typeof request !== 'string');
  const sizes = await Promise.all(streamed.map(request => sizesOf(request, 'one by one')));
  const [largest] = sizes.sort((a, b) => leastBytes(b, true) - leastBytes(a, true));
  choosePlacement(largest!, []);
  throw new Error('each of the rows fits, and all of them do not');
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
