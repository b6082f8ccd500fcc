import type { Recorder, Scope, Tensor } from '../../engine/index.js';
import { causalConv, embedding, gatedDelta, map, reduce, rmsNorm, scaleRows } from '../../kernels/index.js';
import type { LinearMixer } from '../architecture/mixer.js';
import type { LinearStates } from './linearStates.js';
import type { WalkedRows } from './walkedRows.js';
import type { LayerWeights } from './weights.js';

/** Lengths of queries and keys are at least the square root of this. */
const LEAST_SQUARE = 1e-6;

type Kind<K extends LinearMixer['kind']> = Extract<LinearMixer, { kind: K }>;

/** A layer that mixes tokens without attention; its tensors belong to `scope`. */
export class LinearLayer {
  readonly #rec: Recorder;

  /** @param states of the sequences' tokens so far: read and replaced; undefined where sequences begin. */
  constructor(
    private readonly scope: Scope,
    private readonly weights: LayerWeights,
    private readonly rows: WalkedRows,
    /** x Wᵀ (+ bias). */
    private readonly linear: (x: Tensor, weight: Tensor, bias: Tensor | undefined) => Tensor,
    private readonly states: LinearStates | undefined,
    private readonly eps: number,
  ) {
    this.#rec = scope.device.recorder;
  }

  /** A [T, columns], the input of o_proj, from the norm of X [T, hidden]. */
  mixed(normed: Tensor, mixer: LinearMixer): Tensor {
    const x = this.#realOnly(normed);
    return mixer.kind === 'short convolution' ? this.#shortConvolution(x) : this.#gatedDelta(x, mixer);
  }

  #shortConvolution(x: Tensor): Tensor {
    const { q, k, v, qBias, kBias, vBias, conv, convBias } = this.weights;
    const keyed = this.#mapped('k * v', {
      k: this.linear(x, k, kBias),
      v: this.linear(x, v, vBias),
    });
    const convolved = this.#inTokens(this.#convolved(keyed, conv!, 'conv', convBias));
    return this.#mapped('q * x', { q: this.linear(x, q, qBias), x: convolved });
  }

  #gatedDelta(x: Tensor, mixer: Kind<'gated delta rule'>): Tensor {
    const { keyHeads, valueHeads, keyDim, valueDim } = mixer;
    const { weights } = this;
    const { decayRate: rate, decayBias: bias } = weights;
    const decays = this.#mapped('exp(-exp(rate) * softplus(x + bias))', {
      x: this.linear(x, weights.decay!, undefined),
      rate: rate!,
      bias: bias!,
    });
    const betas = this.#mapped('sigmoid(x)', { x: this.linear(x, weights.beta!, undefined) });
    const part = (name: 'q' | 'k' | 'v', conv: 'convQ' | 'convK' | 'convV') =>
      this.#convolved(this.linear(x, weights[name], undefined), weights[conv]!, conv);
    const v = part('v', 'convV');
    const inputs = {
      q: this.#ofLength(part('q', 'convQ'), keyDim, keyDim ** -0.5),
      k: this.#ofLength(part('k', 'convK'), keyDim, 1),
      v,
      decay: this.#walked(decays),
      beta: this.#walked(betas),
    };
    const read = this.scope.tensor(v.shape, 'f32', 'read from memory');
    const { sequences, sequenceOf } = this.rows;
    const states = this.states?.memory;
    gatedDelta(this.#rec, inputs, read, {
      ...{ sequences, sequenceOf, keyHeads, valueHeads },
      ...(states && { states }),
    });
    const own = this.#inTokens(read);
    const normed = this.scope.tensor([own.rowCount * valueHeads, valueDim], 'f32', 'normed heads');
    rmsNorm(this.#rec, own.reshape(normed.shape), weights.mixerNorm!, normed, this.eps);
    return this.#mapped('silu(gate) * x', {
      gate: this.linear(x, weights.outGate!, undefined),
      x: normed.reshape(own.shape),
    });
  }

  /** Padding becomes 0, as in transformers. */
  #realOnly(x: Tensor): Tensor {
    const { real } = this.rows;
    if (!real) return x;
    const zeroed = this.scope.tensor(x.shape, 'f32', x.label);
    scaleRows(this.#rec, x, real, zeroed);
    return zeroed;
  }

  /** Convolves tokens along their sequences, then silu but in a short convolution; the result has walked rows. */
  #convolved(x: Tensor, weight: Tensor, state: string, bias?: Tensor): Tensor {
    const walked = this.#walked(x);
    const out = this.scope.tensor(walked.shape, 'f32', 'convolved');
    const { sequences, sequenceOf } = this.rows;
    const states = this.states?.[state];
    causalConv(this.#rec, walked, weight, out, {
      ...{ sequences, sequenceOf, bias, silu: state !== 'conv' },
      ...(states && { states }),
    });
    return out;
  }

  /** Heads of `columns` columns, of length `length`. */
  #ofLength(x: Tensor, columns: number, length: number): Tensor {
    const heads = x.reshape([x.size / columns, columns]);
    const squares = this.scope.tensor([heads.rowCount, 1], 'f32', 'squares of heads');
    reduce(this.#rec, 'sum', { map: 'x * x', inputs: { x: heads } }, squares);
    const scaled = this.scope.tensor(heads.shape, 'f32', x.label);
    map(
      this.#rec,
      'length * x * rsqrt(squares + least)',
      { x: heads, squares, length, least: LEAST_SQUARE },
      scaled,
    );
    return scaled.reshape(x.shape);
  }

  /** From a row per token to walked rows. */
  #walked(x: Tensor): Tensor {
    const { walkedTokens } = this.rows;
    return walkedTokens ? this.#gathered(x, walkedTokens) : x;
  }

  /** From walked rows to a row per token. */
  #inTokens(x: Tensor): Tensor {
    const { ownRows } = this.rows;
    return ownRows ? this.#gathered(x, ownRows) : x;
  }

  #gathered(x: Tensor, rows: Tensor): Tensor {
    const gathered = this.scope.tensor([rows.size, x.columns], 'f32', x.label);
    embedding(this.#rec, x, rows, gathered);
    return gathered;
  }

  #mapped(expression: string, inputs: Readonly<Record<string, Tensor>>): Tensor {
    const [shaped] = Object.values(inputs);
    const out = this.scope.tensor(shaped!.shape, 'f32', 'mixed');
    map(this.#rec, expression, inputs, out);
    return out;
  }
}
