import { asF32 } from '../../engine/index.js';
import { ropeInverseFrequencies } from '../architecture/rope.js';
import type { GgufContents } from './contents.js';
import { ropeFactorTensors } from './familyParts.js';
import { corruptGguf } from './header.js';
import type { GgufMetadata } from './metadata.js';
import { shortestF32 } from './shortestF32.js';

/** The unscaled rotation that a file's factors apply to. */
interface RopeSizes {
  readonly theta: number;
  readonly rotaryDim: number;
  readonly contextLength: number;
}

/** Fields of config.json for scaled rotation frequencies; empty if they are not scaled. */
export async function ropeScaling(
  file: GgufContents,
  metadata: GgufMetadata,
  sizes: RopeSizes,
): Promise<Record<string, unknown>> {
  const of = metadata.text('general.architecture');
  const at = `${of}.rope`;
  const kind = metadata.text(`${at}.scaling.type`) ?? 'none';
  const number = (key: string) => metadata.number(`${at}.${key}`);
  const count = (key: string) => metadata.count(`${at}.${key}`);
  const factor = number('scaling.factor') ?? number('scale_linear');
  const has = (name: string) => file.tensors.some(tensor => tensor.name === name);
  if (has(ropeFactorTensors.all)) {
    return {
      rope_scaling: await scalingOfFactors(await factorsOf(file, ropeFactorTensors.all, sizes), sizes),
    };
  }
  if (has(ropeFactorTensors.long) && has(ropeFactorTensors.short)) {
    return longrope(file, sizes, count('scaling.original_context_length'), number('scaling.attn_factor'));
  }
  if (kind === 'linear' || (kind === 'none' && (factor ?? 1) !== 1)) {
    return { rope_scaling: { rope_type: 'linear', factor: factor ?? 1 } };
  }
  if (kind === 'none') return {};
  const [logMultiplier, growth] = [
    number('scaling.yarn_log_multiplier'),
    metadata.number(`${of}.attention.temperature_scale`),
  ];
  const [fast, slow] = [number('scaling.yarn_beta_fast'), number('scaling.yarn_beta_slow')];
  return {
    rope_scaling: {
      rope_type: kind,
      ...(factor !== undefined && { factor: shortestF32(factor) }),
      ...(fast !== undefined && { beta_fast: shortestF32(fast) }),
      ...(slow !== undefined && { beta_slow: shortestF32(slow) }),
      ...(logMultiplier !== undefined && { mscale: 1, mscale_all_dim: shortestF32(logMultiplier) }),
      ...(growth !== undefined && { llama_4_scaling_beta: shortestF32(growth) }),
      original_max_position_embeddings: count('scaling.original_context_length'),
    },
  };
}

async function factorsOf(file: GgufContents, name: string, { rotaryDim }: RopeSizes): Promise<number[]> {
  const { type, shape } = file.tensors.find(tensor => tensor.name === name)!;
  if (type.name !== 'F32' || shape.length !== 1 || shape[0] !== rotaryDim / 2) {
    throw corruptGguf(`${file.path}: tensor ${name} is not a list of ${rotaryDim / 2} F32 factors`);
  }
  return [...asF32(await file.bytesOf(name))];
}

/** Phi-3's factors: one list for sequences within the original context, one for longer ones. */
async function longrope(
  file: GgufContents,
  sizes: RopeSizes,
  original: number | undefined,
  attentionFactor: number | undefined,
): Promise<Record<string, unknown>> {
  const from = original ?? sizes.contextLength;
  const scale = sizes.contextLength / from;
  const defaultFactor = scale <= 1 ? 1 : Math.sqrt(1 + Math.log(scale) / Math.log(from));
  const shortest = async (name: string) => (await factorsOf(file, name, sizes)).map(shortestF32);
  return {
    original_max_position_embeddings: from,
    rope_scaling: {
      // Some versions of transformers reject any field besides these three.
      type: 'longrope',
      short_factor: await shortest(ropeFactorTensors.short),
      long_factor: await shortest(ropeFactorTensors.long),
      ...(Math.abs((attentionFactor ?? 1) - defaultFactor) > 1e-6 && {
        attention_factor: shortestF32(attentionFactor ?? 1),
      }),
    },
  };
}

/** Original context lengths of models with llama3 scaling. */
const originalContexts = [8192, 4096, 2048, 16_384, 32_768];

/**
 * Recovers the scaling settings from the factors, the only ones in the file. Tries llama3, whose largest factor is
 * "factor"; if no original context fits, returns the factors themselves as longrope.
 */
function scalingOfFactors(
  factors: readonly number[],
  { theta, rotaryDim, contextLength }: RopeSizes,
): Record<string, unknown> {
  const factor = Math.max(...factors);
  const plain = ropeInverseFrequencies({ kind: 'default', theta, rotaryDim });
  const original = originalContexts.find(originalContext => {
    const settings = { factor, lowFreqFactor: 1, highFreqFactor: 4, originalContext };
    const scaled = ropeInverseFrequencies({ kind: 'llama3', theta, rotaryDim, ...settings });
    return factors.every((value, i) => Math.abs(plain[i]! / scaled[i]! / value - 1) < 1e-5);
  });
  return original === undefined
    ? {
        rope_type: 'longrope',
        short_factor: [...factors],
        long_factor: [...factors],
        attention_factor: 1,
        original_max_position_embeddings: contextLength,
      }
    : {
        rope_type: 'llama3',
        factor,
        low_freq_factor: 1,
        high_freq_factor: 4,
        original_max_position_embeddings: original,
      };
}
