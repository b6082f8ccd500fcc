import { isEarly, type Window } from '../run/window.js';
import type { WindowMap, WindowMeasure } from '../windowMap/windowMap.js';
import { proposeWindowSets } from './dynamicProgram.js';

/** Cosine distance times the share of it that no linear map makes up for; ranks single windows and sets. */
export const repairedDistance = ({ cosine, unexplained }: WindowMeasure): number => cosine * unexplained;

/**
 * Sets of windows worth measuring, at most `length`: in turn the best single ones by the repaired distance, by cosine
 * distance and by residual, early ones, and the best sets of several windows. Each of these alone has chosen badly on
 * some model, so none decides.
 *
 * @param most windows of a set.
 */
export function shortList(map: WindowMap, count: number, length: number, most: number): Window[][] {
  const { layers } = map;
  const measures = new Map(map.windows.map(measure => [`${measure.layer} ${measure.count}`, measure]));
  const single = map.windows.filter(measure => measure.count === count);
  const by = (rank: (measure: WindowMeasure) => number, of = single) =>
    [...of].sort((a, b) => rank(a) - rank(b)).map(({ layer }) => [{ layer, count }]);
  const sets = (windows: number) =>
    proposeWindowSets(
      (layer, n) => {
        const measure = measures.get(`${layer} ${n}`);
        return measure ? repairedDistance(measure) : Number.POSITIVE_INFINITY;
      },
      { layers, count, fewest: windows, most: windows, best: length },
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
  ];
  const found = new Map<string, Window[]>();
  const longest = Math.max(...rankings.map(ranking => ranking.length));
  for (let rank = 0; rank < longest; rank++) {
    for (const ranking of rankings) {
      const next = ranking[rank];
      if (next && found.size < length) found.set(JSON.stringify(next), next);
    }
  }
  return [...found.values()];
}
