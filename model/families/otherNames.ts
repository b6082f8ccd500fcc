import { RmError } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import type { Checkpoint } from '../checkpoint/checkpoint.js';

/** What programs put into names around a model: data-parallel, compiled, sharded and adapted ones. */
const wrapper =
  /(^|\.)(module|_orig_mod|_forward_module|_fsdp_wrapped_module|_checkpoint_wrapped_module|base_model\.model|pretrained_model)\.(?=.)/;

/** What wrappers, and transformers for several classes of one model, put before names. */
const prefixes =
  /^((module|_orig_mod|_forward_module|base_model|pretrained_model|model|transformer|gpt_neox|language_model)\.)*/;

/**
 * Checks that no tensor is stored under two names, as "model.layers.0.x" and "layers.0.x": loaders differ in which they take.
 *
 * @throws RmError CHECKPOINT_CORRUPT naming both.
 */
export function refuseStoredTwice(arch: Architecture, checkpoint: Checkpoint): void {
  const expected = new Set(expectedTensors(arch).map(({ name }) => name));
  const bare = (name: string) => name.replace(prefixes, '');
  const byBareName = new Map([...expected].map(name => [bare(name), name]));
  for (const name of checkpoint.names) {
    const other = byBareName.get(bare(name));
    if (other === undefined || expected.has(name) || !checkpoint.has(other)) continue;
    throw new RmError(
      'CHECKPOINT_CORRUPT',
      `${checkpoint.path}: tensors are stored twice, for example as ${other} and as ${name}`,
      'Leave out those that are not of this model: loaders differ in which they take.',
    );
  }
}

const quantised =
  /\.(qweight|qzeros|g_idx|SCB|absmax|quant_map|quant_state\b.*|weight_packed|weight_scale(_inv)?|weight_format)$/;

/** How somebody gets the expected names back. */
const renaming = (part: string): string =>
  `Rename them, in Python: from safetensors.torch import load_file, save_file; save_file({k.replace("${part}", ""): v for k, v in load_file(path).items()}, path, {"format": "pt"})`;

const again = 'config.json and the weights do not match: download the model again.';

/** Why a checkpoint lacks a tensor, seen from the names it has, and how to mend it. */
export function explainMissing(
  missing: string,
  { tensorNames, layers }: Architecture,
  checkpoint: Checkpoint,
): { problem: string; fix: string } {
  const { names } = checkpoint;
  const of = (pattern: RegExp) => names.find(name => pattern.test(name));
  const adapted = of(/\.(lora_[AB]|lora_embedding_[AB]|base_layer)\b/);
  if (adapted !== undefined) {
    return {
      problem: `the weights have adapters (LoRA) beside them (${adapted})`,
      fix: 'Merge them first (peft: model.merge_and_unload().save_pretrained(folder)).',
    };
  }
  const wrapped = of(wrapper);
  if (wrapped !== undefined) {
    const part = `${wrapper.exec(wrapped)![2]}.`;
    return {
      problem: `names have "${part}" in them (${wrapped}), which a wrapper of the model has put there`,
      fix: renaming(part),
    };
  }
  const blocks = of(quantised);
  if (blocks !== undefined) {
    return {
      problem: `the weights are quantised (${blocks}), and config.json does not say so in "quantization_config"`,
      fix: 'Use the original f32, f16 or bf16 weights of the model, or the config.json that belongs to these.',
    };
  }
  const native = of(/^(tok_embeddings|layers\.\d+\.(attention\.w[qkvo]|feed_forward\.w\d))\b/);
  if (native !== undefined) {
    return {
      problem: `names are those of Meta's and Mistral's own format (${native})`,
      fix: "Download the files for transformers, or convert these with transformers' convert_*_weights_to_hf.py.",
    };
  }
  return otherwise(missing, tensorNames, layers, names);
}

function otherwise(
  missing: string,
  { ownHead, layerPrefix }: Architecture['tensorNames'],
  layers: number,
  names: readonly string[],
): { problem: string; fix: string } {
  if (missing === ownHead) {
    const problem = 'config.json: "tie_word_embeddings" is false, and no head is stored';
    const other = names.find(name => /^(score|classifier|v_head|value_head|qa_outputs)\b/.test(name));
    if (other === undefined) return { problem, fix: again };
    return {
      problem: `${problem}, but ${other}: this is no language model`,
      fix: 'Give the language model that it was made from.',
    };
  }
  const stored = new Set(
    names
      .filter(name => name.startsWith(layerPrefix))
      .map(name => Number.parseInt(name.slice(layerPrefix.length), 10)),
  );
  if (stored.size > 0 && stored.size < layers) {
    return { problem: `config.json states ${layers} layers, and ${stored.size} are stored`, fix: again };
  }
  return { problem: `there is, for example, ${names[0] ?? 'no tensor at all'}`, fix: again };
}
