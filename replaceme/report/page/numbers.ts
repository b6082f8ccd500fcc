/** A number with `precision` significant digits, without exponents between 1e-4 and 1e6, with a true minus sign. */
export function digits(value: number, precision = 3): string {
  if (!Number.isFinite(value))
    return Number.isNaN(value) ? 'not a number' : value > 0 ? 'infinite' : '−infinite';
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text =
    size < 1e-4 || size >= 1e6
      ? value.toExponential(Math.max(0, precision - 1)).replace('e+', 'e')
      : size >= 10 ** (precision - 1)
        ? value.toFixed(0)
        : value.toPrecision(precision);
  return text.replaceAll('-', '−');
}

/** A number with a fixed number of decimal places. */
export const fixed = (value: number, places: number): string => value.toFixed(places).replace('-', '−');

/** 0.9643 -> "96.4 %". */
export const percent = (share: number, places = 1): string => `${fixed(100 * share, places)} %`;

/** 0.8 -> "−20 %", 1.003 -> "+0.3 %". */
export function change(ratio: number, places = Math.abs(ratio - 1) < 0.1 ? 1 : 0): string {
  const text = percent(ratio - 1, places);
  return ratio > 1 ? `+${text}` : text;
}

/** 24576 -> "24,576". */
export const grouped = (value: number): string => value.toLocaleString('en-US');

/** 134515008 -> "134.5 M". */
export function counted(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toPrecision(4)} B`;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(4)} M`;
  return grouped(value);
}

/** Removed layers of a window: "12" or "12 to 18". */
export const removedLayers = ({ layer, count }: { layer: number; count: number }): string =>
  count === 1 ? `${layer + 1}` : `${layer + 1} to ${layer + count}`;

/** "a, b and c". */
export const listed = (names: readonly (string | number)[]): string =>
  names.length < 2 ? `${names[0] ?? ''}` : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
