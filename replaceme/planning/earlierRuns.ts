import type { PruneOptions } from '../options/pruneOptions.js';
import type { PruneRequest } from '../request/request.js';
import type { Paces } from '../run/paces.js';

/** Whatever paces depend on: the shapes, the method and how the windows are found. */
function likenessOf({ arch, method, selection, windows, settings, gradient, budget }: PruneRequest): string {
  const { family, layers, hidden, intermediate, heads, vocab } = arch;
  const chosen = windows ? 'given' : budget ? 'searched' : selection.name;
  const heals = `${settings.heal}${gradient ? `, ${gradient.train}` : ''}`;
  return [family, layers, hidden, intermediate, heads, vocab, method.name, chosen, heals].join(' ');
}

/** What is known of earlier runs like one. */
export interface EarlierRuns {
  readonly paces: Paces | undefined;
  /** Remembers this run. */
  keep(paces: Paces): Promise<void>;
}

/** Undefined where nothing is remembered; sums that a file keeps save a run an unknown part of its time. */
export function earlierRuns(
  { paces: store, statistics }: Pick<PruneOptions, 'paces' | 'statistics'>,
  request: PruneRequest,
): EarlierRuns | undefined {
  if (!store || statistics !== undefined) return undefined;
  const likeness = likenessOf(request);
  return { paces: store.paces(likeness), keep: paces => store.keep(likeness, paces) };
}
