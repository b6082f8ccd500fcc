import type { Rope } from '../architecture/rope.js';
import type { ConfigReader } from './configReader.js';

/** What `readRope` needs from the rest of a config.json. */
interface RopeContext {
  readonly headDim: number;
  /** Default for the context length before scaling. */
  readonly contextLength: number;
  /** Default base of the frequencies (default: `rope_theta`, else 10,000). */
  readonly theta?: number;
  /** Default rotating part of each head, in families that rotate parts of heads (other families reject a part). */
  readonly partial?: number;
  /** Whether neighbouring columns rotate together. */
  readonly interleaved?: boolean;
  /** Context length before scaling; overrides the settings. */
  readonly originalContext?: number;
  /** Settings of one kind of layer, instead of `rope_parameters` or `rope_scaling`. */
  readonly scaling?: ConfigReader;
}

/** The RoPE settings: transformers 4's `rope_scaling`, else `rope_parameters`, as in transformers. */
export const flatSettings = (config: ConfigReader): ConfigReader => {
  const old = config.knows('rope_parameters').object('rope_scaling');
  return old.isEmpty ? config.object('rope_parameters') : old;
};

/**
 * Reads RoPE settings from `rope_parameters` (transformers 5) or `rope_theta` + `rope_scaling` (transformers 4). If a file
 * has both, rope_scaling wins, as in transformers.
 */
export function readRope(config: ConfigReader, context: RopeContext): Rope {
  const { scaling = flatSettings(config), theta = config.positive('rope_theta', 10_000) } = context;
  scaling.knows('original_max_position_embeddings', 'mrope_section', 'mrope_interleaved');
  const stated = scaling.text('rope_type', scaling.text('type', 'default'));
  // Phi-3's first files call longrope su or yarn.
  const isLong = stated === 'su' || (stated === 'yarn' && scaling.has('long_factor'));
  // Sections (mrope) matter for images only.
  const kind = isLong ? 'longrope' : stated === 'mrope' ? 'default' : stated;
  const base = {
    theta: scaling.positive('rope_theta', theta),
    ...rotatedColumns(config, scaling, context),
    ...(context.interleaved && { interleaved: true }),
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
      // Frequencies change only beyond the context, which sequences cannot exceed here.
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
      const defaultFactor = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
      return {
        kind,
        ...base,
        shortFactors: scaling.positives('short_factor', base.rotaryDim / 2),
        longFactors: scaling.positives('long_factor', base.rotaryDim / 2),
        originalContext: original,
        attentionFactor: scaling.positive('attention_factor', defaultFactor),
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

/** Rotating columns of a head. An odd number is rounded up, but still divides the exponents of the frequencies. */
function rotatedColumns(
  config: ConfigReader,
  scaling: ConfigReader,
  { headDim, partial }: RopeContext,
): { rotaryDim: number; exponents?: number } {
  const field = 'partial_rotary_factor';
  const factor = scaling.positive(field, partial === undefined ? config.positive(field, 1) : partial);
  if (factor !== 1 && partial === undefined) {
    throw config.unsupported(
      field,
      'rotates only part of each head, which is not supported in this family',
      'Choose a model that rotates whole heads.',
    );
  }
  const exponents = Math.trunc(headDim * factor);
  const rotaryDim = exponents + (exponents % 2);
  if (exponents < 1 || rotaryDim > headDim) {
    throw config.invalid(
      field,
      `${factor} of heads of ${headDim} gives ${exponents} columns, which cannot rotate`,
    );
  }
  return exponents === rotaryDim ? { rotaryDim } : { rotaryDim, exponents };
}

/** The same as `get_mscale` in transformers. */
function yarnAttentionFactor(scaling: ConfigReader, factor: number): number {
  const scale = (weight: number) => (factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1);
  // 0 counts as absent.
  const weight = (field: string) => (scaling.get(field) ? scaling.positive(field) : undefined);
  const [some, all] = [weight('mscale'), weight('mscale_all_dim')];
  return some !== undefined && all !== undefined ? scale(some) / scale(all) : scale(1);
}
