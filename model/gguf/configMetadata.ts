import { basename, resolve } from 'node:path';
import { asBytes } from '../../engine/dtype.js';
import { RmError } from '../../engine/errors.js';
import type { Architecture } from '../architecture.js';
import type { ModelSource } from '../modelSource.js';
import { type Rope, ropeInverseFrequencies } from '../rope.js';
import { type GgufFamily, ggufFamilies, ROPE_FACTORS } from './families.js';
import { sizeLabel } from './prunedMetadata.js';
import { ggmlType } from './tensorTypes.js';
import { tokenizerMetadata } from './tokenizerMetadata.js';
import type { GgufValue } from './values.js';
import type { GgufTensorSource } from './writer.js';

const refused = (source: ModelSource, problem: string): RmError =>
  new RmError(
    'UNSUPPORTED_FAMILY',
    `${source.nameOf('config.json')}: ${problem}, which cannot be written as GGUF`,
    'Write a model folder instead (an output path without .gguf).',
  );

/** The family under which llama.cpp knows a model. @throws RmError UNSUPPORTED_FAMILY. */
export function ggufFamilyOf(source: ModelSource, arch: Architecture): GgufFamily {
  // Mistral's tensors and sizes are Llama's, and llama.cpp has no name of its own for it.
  const modelType = arch.family === 'mistral' ? 'llama' : arch.family;
  const family = ggufFamilies.find(known => known.modelType === modelType);
  if (!family) throw refused(source, `"model_type" is ${JSON.stringify(arch.family)}`);
  if (arch.attentionWindow.some(window => window !== null && window < arch.contextLength)) {
    throw refused(source, 'some layers look back only so far');
  }
  return family;
}

const factorsTensor = (rope: Rope): GgufTensorSource => {
  const { theta, rotaryDim } = rope;
  const plain = ropeInverseFrequencies({ kind: 'default', theta, rotaryDim });
  const scaled = ropeInverseFrequencies(rope);
  const factors = Float32Array.from(plain, (value, i) => value / scaled[i]!);
  return {
    name: ROPE_FACTORS,
    type: ggmlType('F32'),
    shape: [factors.length],
    bytes: () => asBytes(factors),
  };
};

/** What a GGUF file says of a model besides its tensors, and the tensors that config.json has no need of. */
export interface GgufDescription {
  readonly metadata: Map<string, GgufValue>;
  readonly extraTensors: readonly GgufTensorSource[];
}

/**
 * The metadata of a model folder's config.json and tokenizer.
 *
 * @param config config.json, cut to the layers that are written.
 * @param arch as the config says.
 * @param parameters of the model that is written.
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for what GGUF cannot say.
 */
export async function describeAsGguf(
  source: ModelSource,
  config: Record<string, unknown>,
  arch: Architecture,
  parameters: number,
): Promise<GgufDescription> {
  const family = ggufFamilyOf(source, arch);
  const at = (key: string) => `${family.architecture}.${key}`;
  const metadata = new Map<string, GgufValue>();
  const text = (key: string, value: string) => metadata.set(key, { type: 'string', value });
  const count = (key: string, value: number) => metadata.set(key, { type: 'u32', value });
  text('general.architecture', family.architecture);
  text('general.type', 'model');
  text('general.name', basename(resolve(source.folder ?? source.path)));
  text('general.size_label', sizeLabel(parameters));
  count('general.quantization_version', 2);
  count(at('block_count'), arch.layers);
  const [rope, ...otherRopes] = arch.ropes;
  if (!rope || otherRopes.length > 0 || arch.layerRope.some(kind => kind !== 0)) {
    throw refused(source, 'not all layers rotate alike');
  }
  for (const { key, config: field, type } of family.fields) {
    const value = field === 'rope_theta' ? rope.theta : config[field];
    if (typeof value === 'number') metadata.set(at(key), { type, value });
  }
  count(at('feed_forward_length'), arch.intermediate);
  count(at('attention.head_count'), arch.heads);
  count(at('attention.head_count_kv'), arch.kvHeads);
  count(at('attention.key_length'), arch.headDim);
  count(at('attention.value_length'), arch.headDim);
  count(at('rope.dimension_count'), rope.rotaryDim);
  count(at('vocab_size'), arch.vocab);
  if (rope.kind === 'linear') {
    text(at('rope.scaling.type'), 'linear');
    metadata.set(at('rope.scaling.factor'), { type: 'f32', value: rope.factor });
  } else if (rope.kind !== 'default' && rope.kind !== 'llama3') {
    throw refused(source, `rotations are scaled by ${JSON.stringify(rope.kind)}`);
  }
  for (const [key, value] of await tokenizerMetadata(source, arch.vocab)) metadata.set(key, value);
  return { metadata, extraTensors: rope.kind === 'llama3' ? [factorsTensor(rope)] : [] };
}
