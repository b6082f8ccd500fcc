import type { Rope } from '../architecture/rope.js';
import type { ConfigReader } from './configReader.js';

/** What `readRope` must know of the rest of a config.json. */
export interface RopeContext {
  readonly headDim: number;
  /** Stands for the length before scaling where no such length is given. */
  readonly contextLength: number;
  /** Base of the frequencies where the settings name none (default: `rope_theta`, else 10,000). */
  readonly theta?: number;
  /** The part of each head that turns by default, in families that turn parts of heads (default: others are refused). */
  readonly partial?: number;
  /** The length before scaling, whatever the settings say. */
  readonly originalContext?: number;
  /** In place of `rope_parameters` or `rope_scaling`: the settings of one kind of layer. */
  readonly scaling?: ConfigReader;
}

/** What transformers 4 calls `rope_scaling`, which wins over `rope_parameters`, as in transformers. */
const flatSettings = (config: ConfigReader): ConfigReader => {
  const old = config.object('rope_scaling');
  return old.isEmpty ? config.object('rope_parameters') : old;
};

/**
 * RoPE settings from `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling` (transformers 4).
 * Where a file has both, rope_scaling wins, as in transformers.
 */
export function readRope(config: ConfigReader, context: RopeContext): Rope {
  const { scaling = flatSettings(config), theta = config.positive('rope_theta', 10_000) } = context;
  const stated = scaling.text('rope_type', scaling.text('type', 'default'));
  // What Phi-3's first files call longrope.
  const kind = stated === 'su' || (stated === 'yarn' && scaling.has('long_factor')) ? 'longrope' : stated;
  const base = {
    theta: scaling.positive('rope_theta', theta),
    ...turned(config, scaling, context),
  };
  const originalContext = () => {
    const field = 'original_max_position_embeddings';
    return context.originalContext ?? config.count(field, scaling.count(field, context.contextLength));
  };
  switch (kind) {
    case 'default':
      return { kind, ...base };
    case 'linear':
      return { kind, ...base, factor: scaling.positive('factor') };
    case 'dynamic':
      // Frequencies change only beyond the context, which no sequence may exceed here.
      scaling.positive('factor');
      return { kind: 'default', ...base };
    case 'llama3': {
      const rope = {
        kind,
        ...base,
        factor: scaling.positive('factor'),
        lowFreqFactor: scaling.positive('low_freq_factor'),
        highFreqFactor: scaling.positive('high_freq_factor'),
        originalContext: originalContext(),
      } as const;
      if (rope.highFreqFactor <= rope.lowFreqFactor) {
        throw scaling.invalid('high_freq_factor', `should be above low_freq_factor (${rope.lowFreqFactor})`);
      }
      return rope;
    }
    case 'yarn': {
      const original = originalContext();
      const factor = scaling.positive('factor', context.contextLength / original);
      return {
        kind,
        ...base,
        factor,
        betaFast: scaling.positive('beta_fast', 32),
        betaSlow: scaling.positive('beta_slow', 1),
        truncate: scaling.flag('truncate', true),
        originalContext: original,
        attentionFactor: scaling.positive('attention_factor', yarnAttentionFactor(scaling, factor)),
      };
    }
    case 'longrope': {
      const original = originalContext();
      const factor = scaling.positive('factor', context.contextLength / original);
      const usual = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
      return {
        kind,
        ...base,
        shortFactors: scaling.positives('short_factor', base.rotaryDim / 2),
        longFactors: scaling.positives('long_factor', base.rotaryDim / 2),
        originalContext: original,
        attentionFactor: scaling.positive('attention_factor', usual),
      };
    }
    default:
      throw scaling.unsupported(
        'rope_type',
        `is ${JSON.stringify(stated)}; supported are default, linear, dynamic, llama3, yarn and longrope`,
        'Choose a model with one of these.',
      );
  }
}

/** Columns of a head that turn; an odd number is rounded up, but the exponents of the frequencies are parts of it. */
function turned(
  config: ConfigReader,
  scaling: ConfigReader,
  { headDim, partial }: RopeContext,
): { rotaryDim: number; exponents?: number } {
  const field = 'partial_rotary_factor';
  const factor = scaling.positive(field, partial === undefined ? config.positive(field, 1) : partial);
  if (factor !== 1 && partial === undefined) {
    throw config.unsupported(
      field,
      'turns only a part of each head, which models of this family do not do',
      'Choose a model that rotates whole heads.',
    );
  }
  const exponents = Math.trunc(headDim * factor);
  const rotaryDim = exponents + (exponents % 2);
  if (exponents < 1 || rotaryDim > headDim) {
    throw config.invalid(
      field,
      `${factor} of heads of ${headDim} is ${exponents} columns, which cannot turn`,
    );
  }
  return exponents === rotaryDim ? { rotaryDim } : { rotaryDim, exponents };
}

/** As `get_mscale` of transformers. */
function yarnAttentionFactor(scaling: ConfigReader, factor: number): number {
  const scale = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  // 0 counts as not given.
  const weight = (field: string) => (scaling.get(field) ? scaling.positive(field) : undefined);
  const [some, all] = [weight('mscale'), weight('mscale_all_dim')];
  return some !== undefined && all !== undefined ? scale(some) / scale(all) : scale(1);
}
