import type { Activation } from '../../kernels/index.js';
import type { Architecture, LayerTensorNames, TensorNames } from '../architecture/architecture.js';
import { type ConfigReader, statedDtype } from './configReader.js';

/** Tells whether a checkpoint has a tensor; undefined if only config.json is known. */
export type HasTensor = ((name: string) => boolean) | undefined;

export type Dimensions = Pick<
  Architecture,
  'layers' | 'hidden' | 'intermediate' | 'heads' | 'kvHeads' | 'headDim' | 'vocab' | 'contextLength'
>;

/** Largest head dimension that attention supports. */
const WIDEST_HEAD = 256;

/** Reads num_hidden_layers, hidden_size and num_attention_heads. */
export function readSize(config: ConfigReader): Pick<Dimensions, 'layers' | 'hidden' | 'heads'> {
  const layers = config.count('num_hidden_layers');
  if (layers > 10_000) throw config.invalid('num_hidden_layers', `is ${layers}, more than any model has`);
  return { layers, hidden: config.count('hidden_size'), heads: config.count('num_attention_heads') };
}

/** hidden_size / num_attention_heads. */
export function evenHeads(config: ConfigReader, hidden: number, heads: number): number {
  if (hidden % heads === 0) return hidden / heads;
  throw config.invalid('hidden_size', `${hidden} is not a multiple of num_attention_heads ${heads}`);
}

/** Checks head counts and size. @throws RmError CONFIG_INVALID, UNSUPPORTED_FAMILY for heads that attention does not support. */
export function checkHeads(
  config: ConfigReader,
  { heads, kvHeads, headDim }: Pick<Dimensions, 'heads' | 'kvHeads' | 'headDim'>,
  kvField: string,
): void {
  if (heads % kvHeads !== 0) {
    throw config.invalid(kvField, `${kvHeads} does not divide num_attention_heads ${heads}`);
  }
  if (headDim > WIDEST_HEAD) {
    const problem = `gives heads of ${headDim} columns; at most ${WIDEST_HEAD} are supported`;
    throw config.unsupported('head_dim', problem, 'Choose a model with smaller heads.');
  }
}

/** Reads dimensions under the names that most families use; `defaultHeadDim` is by default hidden_size / heads. */
export function readDimensions(config: ConfigReader, defaultHeadDim?: number): Dimensions {
  const { layers, hidden, heads } = readSize(config);
  const kvHeads = config.count('num_key_value_heads', heads);
  const stated = config.get('head_dim') !== undefined;
  const headDim = stated ? config.count('head_dim') : (defaultHeadDim ?? evenHeads(config, hidden, heads));
  checkHeads(config, { heads, kvHeads, headDim }, 'num_key_value_heads');
  const { vocab, contextLength } = readVocabulary(config);
  const intermediate = config.count('intermediate_size');
  return { layers, hidden, intermediate, heads, kvHeads, headDim, vocab, contextLength };
}

export const readVocabulary = (config: ConfigReader): Pick<Dimensions, 'vocab' | 'contextLength'> => ({
  vocab: config.count('vocab_size'),
  contextLength: config.count('max_position_embeddings'),
});

/** Names in transformers' activations.py. */
const activations: Readonly<Record<string, Activation>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_python: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_fast: 'gelu_tanh',
  gelu_accurate: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  gelu_python_tanh: 'gelu_tanh',
  quick_gelu: 'quick_gelu',
  relu: 'relu',
  relu2: 'relu2',
};

export function readActivation(config: ConfigReader, field: string, defaultName: string): Activation {
  const name = config.text(field, defaultName);
  const activation = Object.hasOwn(activations, name) ? activations[name] : undefined;
  if (activation) return activation;
  const problem = `is ${JSON.stringify(name)}; supported are ${Object.keys(activations).join(', ')}`;
  throw config.unsupported(field, problem, 'Choose a model with one of these activations.');
}

/** Checks that heads have an even number of columns, which RoPE on whole heads needs. */
export function requireEvenHeads(config: ConfigReader, headDim: number): void {
  if (headDim % 2 === 0) return;
  throw config.invalid('head_dim', `is ${headDim}, but RoPE needs an even number`);
}

const KINDS = ['full_attention', 'sliding_attention'] as const;
type LayerKind = (typeof KINDS)[number];

/** Reads `layer_types`; if it is missing, applies the family's rule to each layer. */
export const layerKinds = (
  config: ConfigReader,
  layers: number,
  rule: (layer: number) => LayerKind,
): LayerKind[] =>
  config
    .knows('sliding_window', 'sliding_window_pattern', '_sliding_window_pattern')
    .choices('layer_types', layers, KINDS) ?? Array.from({ length: layers }, (_, layer) => rule(layer));

/** The window of each sliding layer, in tokens; null for the others. */
export function windowsOf(
  config: ConfigReader,
  kinds: readonly LayerKind[],
  defaultWindow?: number,
): (number | null)[] {
  return kinds.map(kind =>
    kind === 'sliding_attention' ? config.count('sliding_window', defaultWindow) : null,
  );
}

/** Reads `sliding_window` in families where it applies to all layers; null means no window. */
export function commonWindow(
  config: ConfigReader,
  layers: number,
  defaultWindow: number | null,
): (number | null)[] {
  const stated = config.has('sliding_window') ? config.get('sliding_window') : defaultWindow;
  const window =
    stated === undefined || stated === null ? null : config.count('sliding_window', defaultWindow ?? 1);
  return new Array<number | null>(layers).fill(window);
}

/** Names outside the layers; `prefix` begins the names of the model's own tensors. */
export interface OuterNames {
  readonly prefix: string;
  readonly lmHead: string;
}

/** The ways in which checkpoints name them; the first counts where only config.json is known. */
export type StoredForms = readonly [OuterNames, ...OuterNames[]];

/** Reads a language model, alone or, with `forms`, within a model that also reads images. */
export type TextFamily = (config: ConfigReader, has: HasTensor, forms?: StoredForms) => Architecture;

/** The first form whose embedding the checkpoint has; a model may be stored without the wrapper that adds its head. */
export function storedForm(forms: StoredForms, embedding: string, has: HasTensor): OuterNames {
  return forms.find(({ prefix }) => has?.(prefix + embedding)) ?? forms[0];
}

/** The forms of Llama-like models: complete, or without the wrapper that adds the head. */
export const llamaForms: StoredForms = [
  { prefix: 'model.', lmHead: 'lm_head.weight' },
  { prefix: '', lmHead: 'lm_head.weight' },
];

export function namesInForm(
  { prefix, lmHead }: OuterNames,
  arch: Pick<Architecture, 'layers' | 'tiedEmbeddings'>,
  layerNames: (at: string, layer: number) => LayerTensorNames,
): TensorNames {
  const embedding = `${prefix}embed_tokens.weight`;
  const layerPrefix = `${prefix}layers.`;
  return {
    embedding,
    finalNorm: `${prefix}norm.weight`,
    finalNormBias: null,
    lmHead: arch.tiedEmbeddings ? embedding : lmHead,
    ownHead: lmHead,
    layerPrefix,
    layers: Array.from({ length: arch.layers }, (_, layer) => layerNames(`${layerPrefix}${layer}`, layer)),
  };
}

/** Which parts of a layer have biases, and whether queries and keys have a norm. */
export interface LlamaParts {
  readonly qkvBias?: boolean;
  readonly outBias?: boolean;
  readonly mlpBias?: boolean;
  readonly qkNorm?: boolean;
}

/** What layers lack that have neither experts nor sinks. */
export const uncommonParts = {
  sinkBias: null,
  router: null,
  routerBias: null,
  sharedGate: null,
  sharedUp: null,
  sharedDown: null,
  sharedRouter: null,
} as const;

/** Tensor names of a Llama-like layer: a norm before the attention and one before the MLP. */
export function llamaLayer(
  at: string,
  { qkvBias = false, outBias = false, mlpBias = false, qkNorm = false }: LlamaParts,
): LayerTensorNames {
  const bias = (present: boolean, name: string) => (present ? `${at}.${name}.bias` : null);
  const norm = (present: boolean, name: string) => (present ? `${at}.${name}.weight` : null);
  return {
    inputNorm: `${at}.input_layernorm.weight`,
    inputNormBias: null,
    q: `${at}.self_attn.q_proj.weight`,
    k: `${at}.self_attn.k_proj.weight`,
    v: `${at}.self_attn.v_proj.weight`,
    qBias: bias(qkvBias, 'self_attn.q_proj'),
    kBias: bias(qkvBias, 'self_attn.k_proj'),
    vBias: bias(qkvBias, 'self_attn.v_proj'),
    qNorm: norm(qkNorm, 'self_attn.q_norm'),
    kNorm: norm(qkNorm, 'self_attn.k_norm'),
    o: `${at}.self_attn.o_proj.weight`,
    oBias: bias(outBias, 'self_attn.o_proj'),
    attentionOutNorm: null,
    mlpNorm: `${at}.post_attention_layernorm.weight`,
    mlpNormBias: null,
    ...uncommonParts,
    gate: `${at}.mlp.gate_proj.weight`,
    up: `${at}.mlp.up_proj.weight`,
    down: `${at}.mlp.down_proj.weight`,
    gateBias: bias(mlpBias, 'mlp.gate_proj'),
    upBias: bias(mlpBias, 'mlp.up_proj'),
    downBias: bias(mlpBias, 'mlp.down_proj'),
    alphaP: null,
    alphaN: null,
    mlpOutNorm: null,
  };
}

/** What a family sets besides its dimensions. */
export type FamilyTraits = Pick<Architecture, 'ropes' | 'tensorNames' | 'tiedEmbeddings'> &
  Partial<Architecture>;

/** Builds a decoder's architecture: defaults that suit most families, overridden by the family's traits. */
export function decoder(
  config: ConfigReader,
  dimensions: Dimensions,
  { norm = { kind: 'rms', eps: config.positive('rms_norm_eps'), offset: 0 }, ...traits }: FamilyTraits,
): Architecture {
  const { layers, headDim } = dimensions;
  return {
    family: config.text('model_type'),
    ...dimensions,
    norm,
    experts: null,
    qkNorm: null,
    parallel: false,
    residualScale: 1,
    embeddingScale: 1,
    activation: 'silu',
    attentionScale: headDim ** -0.5,
    attentionSoftcap: null,
    queryGrowth: null,
    layerRope: new Array<number>(layers).fill(0),
    attentionWindow: new Array<null>(layers).fill(null),
    linear: new Array<null>(layers).fill(null),
    vision: null,
    logitForm: {},
    configPath: [],
    configLists: {},
    dtype: statedDtype(config),
    ...traits,
  };
}
