import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatSummary } from '../../cli/inspect.js';
import { unknownFields } from '../../model/families/index.js';
import { readArchitecture } from '../../model/index.js';
import { inspectModel } from '../../model/source/inspectModel.js';
import { familyNames } from '../familyData.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';

// Fields of config.json that nothing reads, and config.json alone. Takes a second.

type Json = Record<string, unknown>;
const configOf = (family: string): Json =>
  JSON.parse(readFileSync(dataPath('families', family, 'config.json'), 'utf8')) as Json;
const unknown = (config: Json) => unknownFields(config, 'config.json');

for (const family of familyNames) {
  test(`${family}: every field that transformers writes is known`, () => {
    assert.equal(unknown(configOf(family)), { changing: [], others: [] });
  });
}

test('fields that may change the computation are told from those that do not', () => {
  const llama = configOf('llama');
  const of = (fields: Json) => unknown({ ...llama, ...fields });
  for (const [field, value] of Object.entries({
    attn_logit_softcapping: 30,
    sliding_window: 4096,
    layer_types: ['full_attention'],
    num_experts: 8,
    use_alibi: true,
    position_embedding_type: 'alibi',
    logit_scale: 0.5,
    qk_layernorm: true,
    linear_num_key_heads: 4,
    altup_active_idx_act: 2,
    dual_chunk_attention_config: { chunk_size: 8 },
  })) {
    assert.equal(of({ [field]: value }), { changing: [field], others: [] }, field);
    for (const off of [null, false, 0, '', [], {}]) {
      if (field !== 'use_alibi' && off === false) continue;
      assert.equal(of({ [field]: off }), { changing: [], others: [] }, `${field} ${JSON.stringify(off)}`);
    }
  }
  const rope = { ...(llama.rope_parameters as Json), alpha: 1000 };
  assert.equal(of({ rope_parameters: rope }).changing, ['rope_parameters.alpha']);
  assert.equal(of({ scale_attention: 1, embedding_multiplier: 1, attention_dropout: 0.1 }).changing, [
    'scale_attention',
  ]);
  assert.equal(of({ unsloth_fixed: true, quality: 'high', pretraining_tp: 4, temperature: 0.6 }), {
    changing: [],
    others: ['unsloth_fixed', 'quality'],
  });
  assert.equal(of({ activation: 'swiglu', original_vocab_size: 500 }).changing, []);
  const longer = { dual_chunk_attention_config: { chunk_size: 8 } };
  assert.equal(unknown({ ...configOf('qwen2'), ...longer }).changing, []);
  // Beside a language model that is part of a larger one, fields belong to the others.
  const mistral3 = configOf('mistral3');
  const text = { ...(mistral3.text_config as Json), attention_sinks: 4 };
  assert.equal(unknown({ ...mistral3, projector_scale: 3, text_config: text }).changing, [
    'text_config.attention_sinks',
  ]);
});

test('fields of published hybrids are known', () => {
  const qwen = {
    attn_output_gate: true,
    mamba_ssm_dtype: 'float32',
    mlp_only_layers: [],
    full_attention_interval: 4,
  };
  const further = { mtp_num_hidden_layers: 1, mtp_use_dedicated_embeddings: false };
  assert.equal(unknown({ ...configOf('qwen3_5_text'), ...qwen, ...further }).changing, []);
  const sizes = {
    block_dim: 24,
    block_ff_dim: 28,
    conv_dim: 24,
    conv_dim_out: 24,
    num_heads: 4,
    use_pos_enc: true,
  };
  const blocks = { block_use_swiglu: true, block_norm_eps: 1e-5, full_attn_idxs: [1], theta: 1e6 };
  assert.equal(unknown({ ...configOf('lfm2'), ...sizes, ...blocks }).changing, ['theta']);
});

test('a summary counts the kinds of layers, and what they keep of a sequence', async () => {
  const summary = await inspectModel(dataPath('families', 'qwen3_5_text'));
  assert.equal(summary.layerKinds, { 'gated delta rule': 3, attention: 1 });
  // Keys and values of one layer; convolutions of 8 + 8 + 20 columns, and four memories of 4 x 5, of three.
  assert.equal(summary.bytes.cachePerToken, 4 * 2 * 2 * 8);
  assert.equal(summary.bytes.cacheStates, 3 * 4 * (2 * 36 + 4 * 20));
  const text = formatSummary(summary);
  assert.match(text, 'gated delta rule (3), attention (1)');
  assert.match(text, 'per sequence in layers without attention');
});

test('a model with such a field is refused; config.json alone is enough to know', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'downloaded.json');
  copyFileSync(dataPath('families', 'qwen3_vl', 'config.json'), path);
  const summary = await inspectModel(path);
  const stored = await inspectModel(dataPath('families', 'qwen3_vl'));
  assert.equal(summary.parameters, stored.parameters);
  assert.equal([summary.stored, stored.stored], [false, true]);
  assert.match(formatSummary(summary), /weights +none here; .* if config\.json is right/);
  assert.match(formatSummary(summary, ['laco']), /methods +all but laco/);

  writeFileSync(path, JSON.stringify({ ...configOf('llama'), attn_logit_softcapping: 30 }));
  const refused = () => rejectsWith(() => inspectModel(path), 'UNSUPPORTED_FAMILY');
  assert.match(await refused(), /downloaded\.json: "attn_logit_softcapping" is not known in this family/);
  writeFileSync(path, JSON.stringify({ ...configOf('granitemoehybrid'), num_local_experts: 8 }));
  assert.match(await refused(), /"num_local_experts" is not 0/);
  await rejectsWith(() => readArchitecture(join(folder.path, 'absent.json')), 'CHECKPOINT_MISSING');
});

test('published files that state more than transformers reads', () => {
  const commandR7b = {
    ...{ layer_switch: 4, order_of_interleaved_layers: 'local_attn_first', use_parallel_block: true },
    ...{
      position_embedding_type: 'rope_gptj',
      rotary_pct: 1,
      use_gated_activation: true,
      use_qk_norm: false,
    },
    ...{
      use_embedding_sharing: true,
      use_parallel_embedding: true,
      layer_types: null,
      sliding_window_pattern: 4,
    },
  };
  assert.equal(unknown({ ...configOf('cohere2'), ...commandR7b }), { changing: [], others: [] });
  const hunyuan = {
    ...{ attention_head_dim: 6, use_qk_norm: true, num_experts: 1, norm_type: 'rms', dense_list: [24, 0] },
    ...{ use_rotary_pos_emb: true, mlp_bias: false, use_cla: false },
  };
  assert.equal(unknown({ ...configOf('hunyuan'), ...hunyuan }), { changing: [], others: [] });
});

test('families within models that read images', async () => {
  const mistral3 = configOf('mistral3');
  const other = { ...mistral3, text_config: { ...(mistral3.text_config as Json), model_type: 'bloom' } };
  const message = await rejectsWith(async () => unknown(other), 'UNSUPPORTED_FAMILY');
  assert.match(
    message,
    /"text_config\.model_type" is "bloom"; supported within a mistral3 are mistral, ministral3/,
  );
  const smolvlm = configOf('smolvlm');
  const pictures = {
    pixel_shuffle_factor: 3,
    perceiver_config: { hidden_act: 'silu' },
    qk_layer_norms: false,
  };
  const published = { ...smolvlm, text_config: { ...(smolvlm.text_config as Json), ...pictures } };
  assert.equal(unknown(published), { changing: [], others: [] });
  // Published Qwen2.5-VL files have the language model's fields beside vision_config.
  const { text_config: text, ...rest } = configOf('qwen2_5_vl');
  const mrope = { type: 'mrope', mrope_section: [1, 1, 1] };
  const flat = { ...(text as Json), ...rest, rope_parameters: null, rope_scaling: mrope, rope_theta: 1000 };
  assert.equal(unknown(flat), { changing: [], others: [] });
});

test.run();
