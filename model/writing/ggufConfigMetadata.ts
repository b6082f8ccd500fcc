import { basename, resolve } from 'node:path';
import { asBytes, RmError } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from '../architecture/rope.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { KEY_HEADS } from '../gguf/config.js';
import { ggufFamilies } from '../gguf/families.js';
import type { GgufFamily } from '../gguf/family.js';
import { ropeFactorTensors } from '../gguf/familyParts.js';
import { ggufName } from '../gguf/names.js';
import { SLIDING_WINDOW } from '../gguf/slidingLayers.js';
import { ggmlType } from '../gguf/tensorTypes.js';
import { type GgufValue, ggufArray } from '../gguf/values.js';
import type { GgufTensorSource } from '../gguf/writer.js';
import { sizeLabel } from './ggufPrunedMetadata.js';
import { tokenizerMetadata } from './ggufTokenizerMetadata.js';

const refused = (source: ModelSource, problem: string): RmError =>
  new RmError(
    'UNSUPPORTED_FAMILY',
    `${source.nameOf('config.json')}: ${problem}, which cannot be written as GGUF`,
    'Write a model folder instead (an output path without .gguf).',
  );

/** Finds the GGUF family that can express a model. @throws RmError UNSUPPORTED_FAMILY. */
export function ggufFamilyOf(source: ModelSource, arch: Architecture): GgufFamily {
  const rows = ggufFamilies.filter(
    ({ modelType, alsoWrites = [], takes = () => true }) =>
      (modelType === arch.family || alsoWrites.includes(arch.family)) && takes(arch),
  );
  if (rows.length === 0) throw refused(source, `"model_type" is ${JSON.stringify(arch.family)}`);
  const tensors = expectedTensors(arch);
  const homeless = (row: GgufFamily) =>
    tensors.find(({ name }) => ggufName(row, arch.tensorNames, name) === undefined);
  const family = rows.find(row => !homeless(row));
  if (family) return family;
  const names = [...new Set(rows.map(({ architecture }) => architecture))].join(', ');
  throw refused(source, `llama.cpp's ${names} has no place for ${homeless(rows.at(-1)!)!.name}`);
}

const factorsTensor = (name: string, factors: readonly number[]): GgufTensorSource => ({
  name,
  type: ggmlType('F32'),
  shape: [factors.length],
  bytes: () => asBytes(Float32Array.from(factors)),
});

/** Describes how rotation frequencies are scaled: metadata after "<architecture>.rope.scaling.", or tensors. */
function describeRope(rope: Rope): {
  settings: Readonly<Record<string, GgufValue>>;
  tensors: readonly GgufTensorSource[];
} {
  const f32 = (value: number): GgufValue => ({ type: 'f32', value });
  const kind: GgufValue = { type: 'string', value: rope.kind };
  switch (rope.kind) {
    case 'default':
      return { settings: {}, tensors: [] };
    case 'linear':
      return { settings: { type: kind, factor: f32(rope.factor) }, tensors: [] };
    case 'yarn': {
      const settings = {
        type: kind,
        factor: f32(rope.factor),
        original_context_length: { type: 'u32', value: rope.originalContext },
        ...(rope.betaFast !== 32 && { yarn_beta_fast: f32(rope.betaFast) }),
        ...(rope.betaSlow !== 1 && { yarn_beta_slow: f32(rope.betaSlow) }),
      } as const;
      return { settings, tensors: [] };
    }
    case 'llama3': {
      const plain = ropeInverseFrequencies({ ...rope, kind: 'default' });
      const scaled = ropeInverseFrequencies(rope);
      const factors = Array.from(plain, (value, i) => value / scaled[i]!);
      return { settings: {}, tensors: [factorsTensor(ropeFactorTensors.all, factors)] };
    }
    case 'longrope': {
      const { shortFactors, longFactors, originalContext } = rope;
      const one =
        ropeAttentionFactor(rope) === 1 && shortFactors.every((value, i) => value === longFactors[i]);
      if (one) return { settings: {}, tensors: [factorsTensor(ropeFactorTensors.all, shortFactors)] };
      const settings = {
        type: kind,
        original_context_length: { type: 'u32', value: originalContext },
        attn_factor: f32(rope.attentionFactor),
      } as const;
      const tensors = [
        factorsTensor(ropeFactorTensors.long, longFactors),
        factorsTensor(ropeFactorTensors.short, shortFactors),
      ];
      return { settings, tensors };
    }
  }
}

/**
 * Writes the window of sliding layers. llama.cpp derives by a rule which layers slide; most of its versions ignore a list
 * and would silently compute something else.
 */
function describeSliding({ attentionWindow }: Architecture, { sliding }: GgufFamily) {
  const window = attentionWindow.find(each => each !== null);
  return sliding && window ? [[SLIDING_WINDOW, { type: 'u32', value: window }] as const] : [];
}

/** A GGUF file's metadata, and tensors that express settings of config.json. */
interface GgufDescription {
  readonly metadata: Map<string, GgufValue>;
  readonly extraTensors: readonly GgufTensorSource[];
}

/**
 * Builds GGUF metadata from a model folder's config.json and tokenizer.
 *
 * @param family the result of ggufFamilyOf.
 * @param arch the architecture, restricted to the written layers.
 * @param parameters number of weights written.
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for settings that GGUF cannot express.
 */
export async function describeAsGguf(
  source: ModelSource,
  family: GgufFamily,
  arch: Architecture,
  parameters: number,
): Promise<GgufDescription> {
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
  for (const { key, type, of } of family.fields) {
    const value = of(arch);
    if (value !== undefined) metadata.set(at(key), { type, value } as GgufValue);
  }
  count(at('feed_forward_length'), arch.experts?.dense ?? arch.intermediate);
  count(at('attention.head_count'), arch.heads);
  if (family.withoutKeys === undefined) count(at(KEY_HEADS), arch.kvHeads);
  else
    metadata.set(
      at(KEY_HEADS),
      ggufArray(
        'u32',
        arch.linear.map(mixer => (mixer ? 0 : arch.kvHeads)),
      ),
    );
  count(at('attention.key_length'), arch.headDim);
  count(at('attention.value_length'), arch.headDim);
  count(at('vocab_size'), arch.vocab);
  for (const [key, value] of describeSliding(arch, family)) metadata.set(at(key), value);
  const [rope] = arch.ropes;
  const { settings, tensors } = rope ? describeRope(rope) : { settings: {}, tensors: [] };
  if (rope) count(at('rope.dimension_count'), rope.rotaryDim);
  for (const [key, value] of Object.entries(settings)) metadata.set(at(`rope.scaling.${key}`), value);
  const unread = tensors.find(({ name }) => !family.ropeFactors.includes(name));
  if (unread) throw refused(source, `llama.cpp's ${family.architecture} reads no ${unread.name}`);
  for (const [key, value] of await tokenizerMetadata(source, arch.vocab)) metadata.set(key, value);
  return { metadata, extraTensors: tensors };
}
