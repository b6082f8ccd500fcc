import type { TensorRef } from './tensorRef.js';

/**
 * What mixes tokens in a layer without attention; its result A goes through o_proj as attention's does. Causal convolutions
 * see `kernel` tokens, at least two, channel by channel.
 *
 * - short convolution (LFM2): A = q * conv(k * v), all [T, hidden].
 * - gated delta rule (Qwen3.5): q, k and v go through convolutions and silu; a memory S [keyDim, valueDim] of each value head
 *   takes in a token after the other, S = decay S + k (beta (v - (decay S)^T k))^T, and gives S^T q, which is normalised and
 *   multiplied by silu(outGate). q and k have length 1; q is divided by sqrt(keyDim).
 */
export type LinearMixer =
  | { readonly kind: 'short convolution'; readonly kernel: number }
  | {
      readonly kind: 'gated delta rule';
      readonly kernel: number;
      /** Value head h uses key head floor(h * keyHeads / valueHeads). */
      readonly keyHeads: number;
      readonly valueHeads: number;
      readonly keyDim: number;
      readonly valueDim: number;
    };

/** Tensors that only some layers have between their projections and o_proj. */
export interface MixerTensorNames {
  /** Multiplies A: its sigmoid in attention, its silu in the gated delta rule. */
  readonly outGate: TensorRef | null;
  readonly outGateBias: TensorRef | null;
  /** [hidden, 1, kernel] and [hidden], of a short convolution. */
  readonly conv: TensorRef | null;
  readonly convBias: TensorRef | null;
  /** [columns, 1, kernel], of the gated delta rule. */
  readonly convQ: TensorRef | null;
  readonly convK: TensorRef | null;
  readonly convV: TensorRef | null;
  /** decay = exp(-exp(decayRate) softplus(decay(X) + decayBias)), of each value head. */
  readonly decay: TensorRef | null;
  readonly decayBias: TensorRef | null;
  readonly decayRate: TensorRef | null;
  /** How much of a token goes into the memory: its sigmoid. */
  readonly beta: TensorRef | null;
  /** Gain of the norm of each value head, [valueDim]. */
  readonly mixerNorm: TensorRef | null;
}

/** Sizes of a model that columns depend on. */
interface Sizes {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
}

/** Columns of q, k and A in a layer; v has those of A, or of k in attention. */
export function mixedColumns(
  { hidden, heads, kvHeads, headDim }: Sizes,
  mixer: LinearMixer | null,
): { q: number; k: number; v: number; out: number } {
  if (!mixer) {
    const [queries, keys] = [heads * headDim, kvHeads * headDim];
    return { q: queries, k: keys, v: keys, out: queries };
  }
  if (mixer.kind === 'short convolution') return { q: hidden, k: hidden, v: hidden, out: hidden };
  const [keys, values] = [mixer.keyHeads * mixer.keyDim, mixer.valueHeads * mixer.valueDim];
  return { q: keys, k: keys, v: values, out: values };
}

/** Columns of A, which o_proj reads, in a layer, or at the most. */
export const attendedColumns = (
  arch: Sizes & { readonly linear: readonly (LinearMixer | null)[] },
  layer?: number,
): number =>
  layer === undefined
    ? Math.max(...arch.linear.map(mixer => mixedColumns(arch, mixer).out))
    : mixedColumns(arch, arch.linear[layer] ?? null).out;

/** Numbers that a layer without attention keeps of a sequence while it is continued, by what they are. */
export function stateSizes(arch: Sizes, mixer: LinearMixer): Readonly<Record<string, number>> {
  const before = mixer.kernel - 1;
  const { q, k, v } = mixedColumns(arch, mixer);
  if (mixer.kind === 'short convolution') return { conv: before * k };
  const memory = mixer.valueHeads * mixer.keyDim * mixer.valueDim;
  return { convQ: before * q, convK: before * k, convV: before * v, memory };
}

/** Columns of all tensors between the norm of X and A. */
export function mixingColumns(arch: Sizes, mixer: LinearMixer | null): number {
  const { q, k, v, out } = mixedColumns(arch, mixer);
  if (!mixer) return q + k + v + out;
  // What the convolutions read and give besides; of the delta rule also the heads as they are normalised, and the gate.
  return mixer.kind === 'short convolution' ? q + k + v + 3 * out : 3 * (q + k) + 2 * v + 4 * out;
}
