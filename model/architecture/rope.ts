/** Settings common to all kinds of rotary embedding. */
export interface RopeBase {
  /** Base of the frequencies. */
  readonly theta: number;
  /** Leading columns of each head that rotate; even. */
  readonly rotaryDim: number;
  /** Whether neighbouring columns of a head rotate together, not those half the rotating columns apart. */
  readonly interleaved?: boolean;
  /** Divisor in the exponents of the frequencies (default: rotaryDim); rotaryDim - 1 if the config asks for an odd number. */
  readonly exponents?: number;
}

/** How positions turn into rotation angles. */
export type Rope = RopeBase &
  (
    | { readonly kind: 'default' }
    | { readonly kind: 'linear'; readonly factor: number }
    | {
        readonly kind: 'llama3';
        readonly factor: number;
        readonly lowFreqFactor: number;
        readonly highFreqFactor: number;
        readonly originalContext: number;
      }
    | {
        readonly kind: 'yarn';
        readonly factor: number;
        /** A frequency with at least betaFast turns in the original context is kept; with at most betaSlow, divided. */
        readonly betaFast: number;
        readonly betaSlow: number;
        /** Whether the ramp between the two begins and ends at whole columns. */
        readonly truncate: boolean;
        readonly originalContext: number;
        /** Factor on cosines and sines. */
        readonly attentionFactor: number;
      }
    | {
        readonly kind: 'longrope';
        /** rotaryDim / 2 divisors of the frequencies: for sequences within the original context, and for longer ones. */
        readonly shortFactors: readonly number[];
        readonly longFactors: readonly number[];
        readonly originalContext: number;
        /** Factor on cosines and sines. */
        readonly attentionFactor: number;
      }
  );

const f32 = Math.fround;

/**
 * Computes the rotaryDim / 2 rotation frequencies, radians per position; column d of a head turns with column
 * d + rotaryDim / 2. `long` selects the frequencies for sequences beyond the original context, which only longrope
 * distinguishes. Every step rounds to f32: transformers does so, and models are trained with the rounded values.
 * Source: transformers/modeling_rope_utils.py; llama3: Llama 3.1; yarn: Peng et al. (arXiv:2309.00071); longrope: Ding et
 * al. (arXiv:2402.13753).
 */
export function ropeInverseFrequencies(rope: Rope, long = false): Float64Array {
  const { theta, rotaryDim, exponents = rotaryDim } = rope;
  const divided = ramp(rope);
  return Float64Array.from({ length: rotaryDim / 2 }, (_, i) => {
    const power = f32(theta ** f32((2 * i) / exponents));
    const inverse = f32(1 / power);
    switch (rope.kind) {
      case 'default':
        return inverse;
      case 'linear':
        return f32(inverse / rope.factor);
      case 'llama3':
        return llama3(rope, inverse);
      case 'yarn': {
        const kept = f32(1 - divided(i));
        const interpolated = f32(f32(1 / f32(rope.factor * power)) * f32(1 - kept));
        return f32(interpolated + f32(inverse * kept));
      }
      case 'longrope': {
        const factors = long ? rope.longFactors : rope.shortFactors;
        return f32(1 / f32(f32(factors[i]!) * power));
      }
    }
  });
}

function llama3(rope: Extract<Rope, { kind: 'llama3' }>, inverse: number): number {
  const { factor, lowFreqFactor, highFreqFactor, originalContext } = rope;
  // torch computes `number / tensor` as number * (1 / tensor).
  const wavelength = f32(f32(1 / inverse) * f32(2 * Math.PI));
  if (wavelength < originalContext / highFreqFactor) return inverse;
  if (wavelength > originalContext / lowFreqFactor) return f32(inverse / factor);
  const turns = f32(f32(1 / wavelength) * originalContext);
  const smooth = f32(f32(turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor));
  return f32(f32(f32(f32(1 - smooth) * inverse) / factor) + f32(smooth * inverse));
}

/** Yarn: how much of frequency i is divided by the factor, from 0 to 1. */
function ramp(rope: Rope): (i: number) => number {
  if (rope.kind !== 'yarn') return () => 0;
  const { theta, rotaryDim, betaFast, betaSlow, truncate, originalContext } = rope;
  const columnOf = (turns: number) =>
    (rotaryDim * Math.log(originalContext / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  const [first, last] = [columnOf(betaFast), columnOf(betaSlow)];
  const low = Math.max(0, truncate ? Math.floor(first) : first);
  const high = Math.min(rotaryDim - 1, truncate ? Math.ceil(last) : last);
  const width = low === high ? 0.001 : high - low;
  return i => Math.min(1, Math.max(0, f32(f32(i - low) / width)));
}

/** Factor on cosines and sines. */
export const ropeAttentionFactor = (rope: Rope): number =>
  rope.kind === 'yarn' || rope.kind === 'longrope' ? rope.attentionFactor : 1;

/** Whether sequences of `a` and of `b` tokens rotate by the same frequencies. */
export const rotateAlike = (ropes: readonly Rope[], a: number, b: number): boolean =>
  ropes.every(rope => rope.kind !== 'longrope' || a > rope.originalContext === b > rope.originalContext);
