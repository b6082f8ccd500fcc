/** Ticks within a decade, from many decades to few. */
const steps = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]] as const;
/** Fewest ticks that make a logarithmic axis readable. */
const FEWEST = 4;

/** A logarithmic scale with some room around the values, and an axis with few round ticks. */
export function logAxis(values: readonly number[], title: string, reverse = false) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const room = (most / least) ** 0.06 * 1.05;
  const domain = [least / room, most * room] as const;
  const decades = [Math.floor(Math.log10(domain[0])), Math.ceil(Math.log10(domain[1]))] as const;
  const ticks = (within: readonly number[]) =>
    Array.from({ length: decades[1] - decades[0] + 1 }, (_, d) =>
      within.map(step => step * 10 ** (decades[0] + d)),
    )
      .flat()
      .filter(tick => tick >= domain[0] && tick <= domain[1]);
  const candidates = steps.map(ticks);
  return {
    scale: { type: 'log', domain, nice: false, reverse },
    axis: {
      title,
      values: candidates.find(({ length }) => length >= FEWEST) ?? candidates.at(-1),
      format: '~g',
    },
  };
}
