import type { RgbImage } from './decodeImage.js';

/** Filters by Pillow's numbers ("resample" in preprocessor_config.json): weight by distance, and reach in pixels. */
const filters: Readonly<Record<number, { reach: number; weight: (x: number) => number }>> = {
  2: { reach: 1, weight: x => Math.max(0, 1 - Math.abs(x)) },
  3: {
    reach: 2,
    weight: signed => {
      const a = -0.5;
      const x = Math.abs(signed);
      if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
      return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    },
  },
};

/** Numbers of the filters that `resample` supports: bilinear and bicubic. */
export const resampleFilters: readonly number[] = Object.keys(filters).map(Number);

/** Weights are integers in units of 1 / ONE. */
const ONE = 2 ** 22;

interface Taps {
  /** First pixel with a weight. */
  readonly first: number;
  /** In units of 1 / ONE. */
  readonly weights: readonly number[];
}

/** Weights of `from` source pixels for each of `to` target pixels; the filter widens when shrinking, so no pixel is skipped. */
function taps(from: number, to: number, filter: number): Taps[] {
  const { reach, weight } = filters[filter]!;
  const scale = from / to;
  const width = Math.max(1, scale);
  const support = reach * width;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const raw = Array.from({ length: end - first }, (_, k) =>
      weight((k + first - centre + 0.5) * (1 / width)),
    );
    const sum = raw.reduce((a, b) => a + b, 0);
    return {
      first,
      weights: raw.map(value => {
        const share = sum === 0 ? value : value / sum;
        return Math.trunc(share * ONE + (share < 0 ? -0.5 : 0.5));
      }),
    };
  });
}

/** Filters every line along itself; the pixels of a line are `step` bytes apart. */
function pass(
  source: Uint8Array,
  from: { length: number; step: number },
  to: number,
  lines: { count: number; start: (line: number) => number },
  out: { data: Uint8Array; step: number; start: (line: number) => number },
  filter: number,
): void {
  const all = taps(from.length, to, filter);
  for (let line = 0; line < lines.count; line++) {
    const [base, target] = [lines.start(line), out.start(line)];
    for (const [i, { first, weights }] of all.entries()) {
      let sum = ONE / 2;
      for (let k = 0; k < weights.length; k++) sum += source[base + (first + k) * from.step]! * weights[k]!;
      out.data[target + i * out.step] = Math.min(255, Math.max(0, Math.floor(sum / ONE)));
    }
  }
}

const toWidth = ({ width: before, height, data }: RgbImage, width: number, filter: number): RgbImage => {
  if (width === before) return { width, height, data };
  const narrowed = new Uint8Array(3 * width * height);
  const lines = (length: number) => (line: number) => Math.floor(line / 3) * 3 * length + (line % 3);
  pass(
    data,
    { length: before, step: 3 },
    width,
    { count: 3 * height, start: lines(before) },
    { data: narrowed, step: 3, start: lines(width) },
    filter,
  );
  return { width, height, data: narrowed };
};

const toHeight = ({ width, height: before, data }: RgbImage, height: number, filter: number): RgbImage => {
  if (height === before) return { width, height, data };
  const shortened = new Uint8Array(3 * width * height);
  const start = (line: number) => line;
  pass(
    data,
    { length: before, step: 3 * width },
    height,
    { count: 3 * width, start },
    { data: shortened, step: 3 * width, start },
    filter,
  );
  return { width, height, data: shortened };
};

/**
 * Resizes an image exactly as `Image.resize` of Pillow 13 does, bit for bit: a separable filter, integer weights, the
 * intermediate image rounded to 8 bits; the horizontal pass first, except where the height shrinks more than twice as far as
 * the width.
 *
 * @param filter one of `resampleFilters`.
 * Source: Pillow, src/libImaging/Resample.c; when the vertical pass comes first was found by trying many sizes.
 */
export function resample(image: RgbImage, width: number, height: number, filter: number): RgbImage {
  const less = image.height - height;
  if (less > 0 && less > 2 * (image.width - width)) {
    return toWidth(toHeight(image, height, filter), width, filter);
  }
  return toHeight(toWidth(image, width, filter), height, filter);
}
