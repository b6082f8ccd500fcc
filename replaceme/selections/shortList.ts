import { isEarly, type Window } from '../run/window.js';
import type { WindowMap, WindowMeasure } from '../windowMap/windowMap.js';
import { proposeWindowSets } from './dynamicProgram.js';

/** Of how many times as many sets those that suit are taken. */
const WIDER = 8;

/** Cosine distance times the share of it that no linear map corrects; ranks single windows and sets. */
const repairedDistance = ({ cosine, unexplained }: WindowMeasure): number => cosine * unexplained;

/**
 * At most `length` sets of windows worth measuring. Takes in turn from several rankings: single windows by repaired
 * distance, by residual and by cosine distance, early windows, and sets of several windows. Each ranking alone chose
 * badly on some model, so none decides.
 *
 * @param most the most windows of a set.
 * @param suits which sets may be proposed (default: all).
 */
export function shortList(
  map: WindowMap,
  count: number,
  length: number,
  most: number,
  suits?: (windows: readonly Window[]) => boolean,
): Window[][] {
  const { layers } = map;
  const measures = new Map(map.windows.map(measure => [`${measure.layer} ${measure.count}`, measure]));
  const single = map.windows.filter(measure => measure.count === count);
  const by = (rank: (measure: WindowMeasure) => number, some = single) =>
    [...some].sort((a, b) => rank(a) - rank(b)).map(({ layer }) => [{ layer, count }]);
  const sets = (windows: number) =>
    proposeWindowSets(
      (layer, n) => {
        const measure = measures.get(`${layer} ${n}`);
        return measure ? repairedDistance(measure) : Number.POSITIVE_INFINITY;
      },
      { layers, count, fewest: windows, most: windows, best: suits ? WIDER * length : length },
    ).map(set => [...set.windows]);
  const rankings = [
    by(repairedDistance),
    most >= 2 ? sets(2) : [],
    by(
      repairedDistance,
      single.filter(measure => isEarly([measure], layers)),
    ),
    by(({ residual }) => residual),
    by(({ cosine }) => cosine),
    ...Array.from({ length: Math.max(0, most - 2) }, (_, more) => sets(3 + more)),
  ].map(ranking => (suits ? ranking.filter(suits) : ranking));
  const list = new Map<string, Window[]>();
  const longest = Math.max(...rankings.map(ranking => ranking.length));
  for (let rank = 0; rank < longest; rank++) {
    for (const ranking of rankings) {
      const next = ranking[rank];
      if (next && list.size < length) list.set(JSON.stringify(next), next);
    }
  }
  return [...list.values()];
}
