import type { ScaleAxis, ScalePoint, ScaleTimes } from './scalePoint.js';

/** How one quantity grows with one size: quantity ~ size^exponent. */
export interface Growth {
  readonly axis: ScaleAxis;
  readonly quantity: keyof ScaleTimes;
  readonly exponent: number;
  /** Share of the variance of log(quantity) that the line explains. */
  readonly r2: number;
  /** The exponent by arithmetic: "2", or "0 to 1" where a part is constant. */
  readonly expected: string;
}

/** Slope and R² of the least-squares line through (log x, log y); all values must be above 0. */
export function powerLaw(points: readonly { readonly x: number; readonly y: number }[]): {
  readonly exponent: number;
  readonly r2: number;
} {
  const logs = points.map(({ x, y }) => ({ x: Math.log(x), y: Math.log(y) }));
  const mean = (key: 'x' | 'y') => logs.reduce((sum, point) => sum + point[key], 0) / logs.length;
  const [x0, y0] = [mean('x'), mean('y')];
  let [xx, xy, yy] = [0, 0, 0];
  for (const { x, y } of logs) {
    xx += (x - x0) ** 2;
    xy += (x - x0) * (y - y0);
    yy += (y - y0) ** 2;
  }
  return { exponent: xy / xx, r2: yy > 0 ? xy ** 2 / (xx * yy) : 1 };
}

/** Exponents by arithmetic. Attention within sequences of fixed length is linear in the tokens. */
const expected: Readonly<Record<ScaleAxis, Readonly<Partial<Record<keyof ScaleTimes, string>>>>> = {
  tokens: { load: '0', forward: '1', sums: '1', solve: '0', deviceBytes: '0 to 1', hostBytes: '0' },
  layers: { load: '1', forward: '1', sums: '0', solve: '0', deviceBytes: '0 to 1', hostBytes: '0' },
  hidden: { load: '2', forward: '1 to 2', sums: '2', solve: '3', deviceBytes: '1 to 2', hostBytes: '0 to 2' },
  shards: { load: '0', forward: '-1', sums: '-1', deviceBytes: '-1 to 0', hostBytes: '0' },
  files: { load: '0', forward: '0', sums: '0', solve: '0', deviceBytes: '0', hostBytes: '0' },
};

/** Fits an exponent for each quantity along each axis measured at two or more values. */
export function growthOf(points: readonly ScalePoint[]): Growth[] {
  const axes = [...new Set(points.map(({ axis }) => axis))];
  return axes.flatMap(axis => {
    const series = points.filter(point => point.axis === axis);
    const distinct = new Set(series.map(({ sizes }) => sizes[axis]));
    if (distinct.size < 2) return [];
    return (Object.entries(expected[axis]) as [keyof ScaleTimes, string][]).flatMap(([quantity, words]) => {
      const values = series.map(point => ({ x: point.sizes[axis], y: point[quantity] }));
      if (values.some(({ y }) => y <= 0)) return [];
      return [{ axis, quantity, ...powerLaw(values), expected: words }];
    });
  });
}
