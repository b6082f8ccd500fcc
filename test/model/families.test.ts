import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { expectedTensors, keepLayers } from '../../model/architecture/architecture.js';
import { type Rope, ropeAttentionFactor, ropeInverseFrequencies } from '../../model/architecture/rope.js';
import type { Checkpoint } from '../../model/checkpoint/checkpoint.js';
import { ConfigReader } from '../../model/families/configReader.js';
import {
  architectureFromConfig,
  checkShapes,
  classWarnings,
  pruneConfig,
} from '../../model/families/index.js';
import { readRope } from '../../model/families/rope.js';
import { rejectsWith } from '../gpu.js';

const config = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 96,
  num_hidden_layers: 3,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 512,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-6,
  hidden_act: 'silu',
  rope_parameters: { rope_type: 'default', rope_theta: 5e5 },
  dtype: 'bfloat16',
  eos_token_id: [1, 2, 3],
};
const read = (changes: Record<string, unknown> = {}) =>
  architectureFromConfig({ ...config, ...changes }, 'config.json');

test('a Llama config with the keys of transformers 5', () => {
  const arch = read();
  assert.is(arch.family, 'llama');
  assert.is(arch.headDim, 16);
  assert.is(arch.attentionScale, 0.25);
  assert.equal(arch.ropes, [{ kind: 'default', theta: 5e5, rotaryDim: 16 }]);
  assert.is(arch.dtype, 'bf16');
  assert.equal(arch.attentionWindow, [null, null, null]);
  assert.is(arch.tensorNames.lmHead, 'lm_head.weight');
  assert.is(arch.tensorNames.layers[2]!.down, 'model.layers.2.mlp.down_proj.weight');
  assert.is(arch.tensorNames.layers[2]!.qBias, null);
  assert.is(read({ tie_word_embeddings: true }).tensorNames.lmHead, 'model.embed_tokens.weight');
  assert.is(
    read({ attention_bias: true }).tensorNames.layers[0]!.oBias,
    'model.layers.0.self_attn.o_proj.bias',
  );
  assert.is(read({ mlp_bias: true }).tensorNames.layers[1]!.upBias, 'model.layers.1.mlp.up_proj.bias');
  assert.is(read({ head_dim: 24 }).headDim, 24);
  assert.is(read({ num_key_value_heads: null }).kvHeads, 4);
});

test('the keys of transformers 4', () => {
  const old = { rope_parameters: undefined, dtype: undefined, torch_dtype: 'float16', rope_theta: 7e4 };
  const whole = { rotaryDim: 16 };
  const ropeOf = (changes: Record<string, unknown>) => read(changes).ropes[0];
  assert.equal(ropeOf(old), { kind: 'default', theta: 7e4, ...whole });
  assert.is(read(old).dtype, 'f16');
  assert.equal(ropeOf({ ...old, rope_theta: undefined }), { kind: 'default', theta: 1e4, ...whole });
  assert.equal(ropeOf({ ...old, rope_scaling: { type: 'linear', factor: 2 } }), {
    kind: 'linear',
    theta: 7e4,
    ...whole,
    factor: 2,
  });
  const llama3 = {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 32,
  };
  const expected = {
    kind: 'llama3',
    theta: 7e4,
    ...whole,
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContext: 32,
  };
  assert.equal(ropeOf({ ...old, rope_scaling: llama3 }), expected);
  assert.equal(ropeOf({ rope_parameters: { ...llama3, rope_theta: 7e4 } }), expected);
});

test('windows of a family whose layers all slide, or none', () => {
  const mistral = (changes: Record<string, unknown>) =>
    read({ model_type: 'mistral', ...changes }).attentionWindow;
  assert.equal(mistral({ sliding_window: null }), [null, null, null]);
  assert.equal(mistral({ sliding_window: 64 }), [64, 64, 64]);
  // As in transformers' MistralConfig.
  assert.equal(mistral({}), [4096, 4096, 4096]);
});

test('a config that lacks or contradicts itself names the field', async () => {
  await rejectsWith(() => architectureFromConfig([], 'config.json'), 'CONFIG_INVALID');
  const needed = [
    'model_type',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
  ];
  for (const field of [...needed, 'vocab_size', 'max_position_embeddings', 'rms_norm_eps']) {
    const message = await rejectsWith(() => read({ [field]: undefined }), 'CONFIG_INVALID');
    assert.match(message, `config.json: "${field}" is missing`);
  }
  const wrong: [string, unknown][] = [
    ['hidden_size', '64'],
    ['hidden_size', 66],
    ['hidden_size', 64.5],
    ['num_hidden_layers', 0],
    ['num_hidden_layers', 2 ** 40],
    ['num_key_value_heads', 3],
    ['head_dim', 15],
    ['rms_norm_eps', -1],
    ['tie_word_embeddings', 'yes'],
    ['hidden_act', 3],
    ['rope_parameters', 'default'],
    ['rope_theta', -1],
    ['model_type', 7],
  ];
  for (const [field, value] of wrong) {
    const message = await rejectsWith(() => read({ [field]: value }), 'CONFIG_INVALID');
    assert.match(message, `"${field}"`);
  }
  const partial = { rope_type: 'llama3', rope_theta: 1e4, factor: 8, low_freq_factor: 1 };
  const message = await rejectsWith(() => read({ rope_parameters: partial }), 'CONFIG_INVALID');
  assert.match(message, '"rope_parameters.high_freq_factor" is missing');
});

test('what cannot be computed is named with what can', async () => {
  const unsupported = (changes: Record<string, unknown>) =>
    rejectsWith(() => read(changes), 'UNSUPPORTED_FAMILY');
  assert.match(
    await unsupported({ model_type: 'gpt2' }),
    /"gpt2"; supported are llama, gpt_oss, smollm3, mistral/,
  );
  assert.match(await unsupported({ model_type: 'constructor' }), /"constructor"; supported/);
  assert.match(await unsupported({ hidden_act: 'mish' }), /"hidden_act" is "mish"/);
  assert.match(
    await unsupported({ rope_scaling: { rope_type: 'spiral', factor: 2 } }),
    /"rope_scaling.rope_type" is "spiral"; supported are default, linear/,
  );
  assert.match(await unsupported({ partial_rotary_factor: 0.5 }), /partial_rotary_factor/);
  assert.match(await unsupported({ quantization_config: { quant_method: 'hqq' } }), /quantised by hqq/);
});

/** inv_freq of transformers 5.23 on the CPU, f32: the same bits. */
test('rotation frequencies are those of transformers', () => {
  const same = (rope: Rope, picks: [number, number][], long = false) => {
    const frequencies = ropeInverseFrequencies(rope, long);
    assert.is(frequencies.length, rope.rotaryDim / 2);
    for (const [i, expected] of picks) assert.is(frequencies[i], expected, `${rope.kind} ${i}`);
  };
  same(
    {
      kind: 'llama3',
      theta: 5e5,
      rotaryDim: 64,
      factor: 32,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContext: 8192,
    },
    [
      [0, 1],
      [1, 0.663601279258728],
      [14, 0.0032114461064338684],
      [15, 0.0012905480107292533],
      [16, 0.000429556705057621],
      [17, 9.708286233944818e-5],
      [18, 1.9461638657958247e-5],
      [31, 9.418306490260875e-8],
    ],
  );
  same({ kind: 'linear', theta: 1e4, rotaryDim: 16, factor: 3 }, [
    [0, 0.3333333432674408],
    [1, 0.10540925711393356],
    [7, 0.0001054092645063065],
  ]);
  same({ kind: 'default', theta: 1e5, rotaryDim: 64 }, [
    [1, 0.6978305578231812],
    [30, 2.0535249859676696e-5],
  ]);
  const yarn = (theta: number, scaling: Record<string, unknown>) =>
    read({
      head_dim: 64,
      max_position_embeddings: 16384,
      rope_parameters: {
        rope_type: 'yarn',
        rope_theta: theta,
        original_max_position_embeddings: 4096,
        ...scaling,
      },
    }).ropes[0]!;
  const usual = yarn(1e6, { factor: 4 });
  assert.is(ropeAttentionFactor(usual), 1.138629436111989);
  same(usual, [
    [0, 1],
    [1, 0.6493816375732422],
    [5, 0.11547820270061493],
    [16, 0.0002500000118743628],
    [31, 3.8498163235090033e-7],
  ]);
  // A ramp that ends between columns, and the attention factor of two weights.
  const scaling = {
    factor: 40,
    beta_fast: 16,
    beta_slow: 2,
    truncate: false,
    mscale: 1,
    mscale_all_dim: 0.5,
  };
  const other = yarn(1e4, scaling);
  assert.ok(Math.abs(ropeAttentionFactor(other) - 1.1557219901962608) < 1e-15);
  same(other, [
    [1, 0.7498942017555237],
    [16, 0.005790104623883963],
    [31, 3.3338035336782923e-6],
  ]);
  const factors = (step: number) => Array.from({ length: 12 }, (_, i) => 1 + step * i);
  const phi = new ConfigReader(
    {
      max_position_embeddings: 131072,
      original_max_position_embeddings: 4096,
      rope_scaling: { type: 'su', short_factor: factors(0.05), long_factor: factors(0.7) },
    },
    'config.json',
  );
  const longrope = readRope(phi, { headDim: 32, contextLength: 131072, partial: 0.75 });
  assert.is(ropeAttentionFactor(longrope), 1.1902380714238083);
  same(longrope, [
    [1, 0.4420561194419861],
    [6, 0.007692307699471712],
    [11, 0.0001389957615174353],
  ]);
  const beyond: [number, number][] = [
    [1, 0.27303463220596313],
    [6, 0.001923076924867928],
    [11, 2.4763610781519674e-5],
  ];
  same(longrope, beyond, true);
});

function checkpointOf(shapes: ReadonlyMap<string, readonly number[]>): Checkpoint {
  const refuse = () => Promise.reject(new Error('nothing is read'));
  return {
    path: 'model',
    names: [...shapes.keys()],
    totalBytes: 0,
    has: name => shapes.has(name),
    opaque: () => undefined,
    info: name => ({ name, dtype: 'f32', shape: [...shapes.get(name)!], byteLength: 0 }),
    read: refuse,
    readRange: refuse,
    readInto: refuse,
    close: async () => {},
  };
}

test('tensors are compared with what the config implies', async () => {
  const arch = read({ attention_bias: true, head_dim: 24 });
  const shapes = () => new Map(expectedTensors(arch).map(({ name, shape }) => [name, [...shape]]));
  assert.equal(shapes().get('model.layers.1.self_attn.k_proj.weight'), [48, 64]);
  assert.equal(shapes().get('model.layers.1.self_attn.o_proj.weight'), [64, 96]);
  assert.equal(shapes().get('lm_head.weight'), [512, 64]);
  checkShapes(arch, checkpointOf(shapes()));

  const without = shapes();
  without.delete('lm_head.weight');
  const missing = await rejectsWith(() => checkShapes(arch, checkpointOf(without)), 'CHECKPOINT_CORRUPT');
  assert.match(missing, /lm_head\.weight \[512,64\] is missing: .*tie_word_embeddings/);
  checkShapes({ ...arch, tiedEmbeddings: true }, checkpointOf(without));

  const turned = shapes().set('model.layers.2.mlp.down_proj.weight', [96, 64]);
  const wrong = await rejectsWith(() => checkShapes(arch, checkpointOf(turned)), 'CHECKPOINT_CORRUPT');
  assert.match(
    wrong,
    'tensor model.layers.2.mlp.down_proj.weight has shape [96,64], but config.json implies [64,96]',
  );
});

test('tensors under other names are recognised', async () => {
  const arch = read();
  const named = (rename: (name: string) => string, more: string[] = []) =>
    checkpointOf(
      new Map([
        ...expectedTensors(arch).map(({ name, shape }) => [rename(name), [...shape]] as const),
        ...more.map(name => [name, [1]] as const),
      ]),
    );
  const refused = (rename: (name: string) => string, more?: string[]) =>
    rejectsWith(() => checkShapes(arch, named(rename, more)), 'CHECKPOINT_CORRUPT');
  for (const prefix of ['module.', '_orig_mod.', 'base_model.model.', 'module._orig_mod.']) {
    assert.match(await refused(name => prefix + name), /names have "\w+(\.model)?\." in them/);
  }
  const within = (name: string) => name.replace(/layers\.\d+/, '$&._fsdp_wrapped_module');
  assert.match(await refused(within), /"_fsdp_wrapped_module\." in them/);
  assert.match(
    await refused(
      name => name.replace('q_proj', 'q_proj.base_layer'),
      ['model.layers.0.q_proj.lora_A.default.weight'],
    ),
    /adapters \(LoRA\) beside them/,
  );
  assert.match(
    await refused(name => name.replace('proj.weight', 'proj.qweight')),
    /are quantised \(.*qweight\)/,
  );
  assert.match(
    await refused(name =>
      name.replace('model.embed_tokens', 'tok_embeddings').replace('model.layers', 'layers'),
    ),
    /Meta's and Mistral's own format \(tok_embeddings\.weight\)/,
  );
  assert.match(
    await refused(name => name.replace('lm_head', 'score')),
    /but score\.weight: this is no language model/,
  );
  assert.match(await refused(name => name.replace('layers.2', 'tail')), /states 3 layers, and 2 are stored/);
  assert.match(await refused(name => name.replace('model.', 'transformer.')), /for example, transformer\./);

  // Twice: without the prefix, with that of a wrapper, and single tensors too.
  const same = (name: string) => name;
  for (const more of [
    'layers.0.mlp.down_proj.weight',
    'module.model.layers.1.mlp.down_proj.weight',
    'norm.weight',
    'model.lm_head.weight',
    '_orig_mod.lm_head.weight',
  ]) {
    assert.match(await refused(same, [more]), `and as ${more}`);
  }
  checkShapes(
    arch,
    named(same, ['vision_tower.layers.0.mlp.down_proj.weight', 'model.layers.0.mlp.down_proj.bias']),
  );
});

test('classes that are no language models are refused', async () => {
  const classes = (...architectures: unknown[]) => read({ architectures });
  for (const name of [
    'LlamaForSequenceClassification',
    'Qwen2ForTokenClassification',
    'LlamaForQuestionAnswering',
    'MistralForSequenceClassification',
    'LlamaForRewardModel',
    'Qwen2ForRewardModel',
    'InternLM2ForRewardModel',
    'LlamaRewardModel',
    'LlamaForMaskedLM',
  ]) {
    assert.match(await rejectsWith(() => classes(name), 'UNSUPPORTED_FAMILY'), `"architectures" is ${name}`);
  }
  for (const name of [
    'LlamaForCausalLM',
    'MyLlamaForCausalLM',
    'Gemma3ForConditionalGeneration',
    'GPT2LMHeadModel',
  ]) {
    classes(name);
    assert.equal(classWarnings({ ...config, architectures: [name] }, 'config.json'), []);
  }
  for (const name of ['LlamaModel', 'LlamaForCausalLMEagle3', 'AutoModelForCausalLMWithValueHead']) {
    classes(name);
    assert.match(
      classWarnings({ ...config, architectures: [name] }, 'config.json')[0]!,
      `is ${name}, which may be`,
    );
  }
  for (const nothing of [undefined, null, [], 'LlamaForCausalLM', [3]]) {
    read({ architectures: nothing });
    assert.equal(classWarnings({ ...config, architectures: nothing }, 'config.json'), []);
  }
  assert.match(
    await rejectsWith(() => read({ transformers_weights: 'x.safetensors' }), 'UNSUPPORTED_FAMILY'),
    /names the weights to read/,
  );
});

test('settings by the number of a layer follow the layers', () => {
  const full = {
    ...config,
    num_hidden_layers: 12,
    per_layer: Object.fromEntries(Array.from({ length: 12 }, (_, layer) => [`${layer}`, { bits: layer }])),
    overrides: { default: 4, 2: 'two', 10: 'ten', 11: 'eleven' },
    pruned_heads: { 0: [1], 3: [2, 3] },
    nested: { modules: { 'model.layers.2.mlp': 'a', 'model.layers.10.mlp': 'b', lm_head: 'c' } },
    by_name: { layer_1: 1, layer_2: 2, layer11: 11 },
    mlp_only_layers: [1, 2, 10],
    id2label: { 0: 'no', 1: 'yes' },
    token_names: { 1: 'one' },
    sizes: { 1: 'small', 40: 'large' },
    eos_token_id: [1, 2, 3],
    layer_norm_eps: [1, 2],
  };
  assert.equal(pruneConfig(full, [0, 2, 3, 10]), {
    ...full,
    num_hidden_layers: 4,
    per_layer: { 0: { bits: 0 }, 1: { bits: 2 }, 2: { bits: 3 }, 3: { bits: 10 } },
    overrides: { default: 4, 1: 'two', 3: 'ten' },
    pruned_heads: { 0: [1], 2: [2, 3] },
    nested: { modules: { 'model.layers.1.mlp': 'a', 'model.layers.3.mlp': 'b', lm_head: 'c' } },
    by_name: { layer_1: 2 },
    mlp_only_layers: [1, 3],
  });
});

test('keepLayers keeps the names of the old checkpoint', () => {
  const arch = keepLayers(read(), [0, 2]);
  assert.is(arch.layers, 2);
  assert.is(arch.tensorNames.layers[1]!.q, 'model.layers.2.self_attn.q_proj.weight');
  assert.is(arch.attentionWindow.length, 2);
});

test('pruneConfig cuts every per-layer list and nothing else', async () => {
  const full = {
    ...config,
    layer_types: ['a', 'b', 'c'],
    nested: { no_rope_layers: [1, 0, 1], other: [1, 2] },
    max_window_layers: 2,
    rope_scaling: { short_factor: [1, 2, 3] },
    untouched: null,
  };
  const before = JSON.stringify(full);
  const pruned = pruneConfig(full, [0, 2]);
  assert.is(JSON.stringify(full), before);
  assert.equal(Object.keys(pruned), Object.keys(full));
  assert.equal(pruned, {
    ...full,
    num_hidden_layers: 2,
    layer_types: ['a', 'c'],
    nested: { no_rope_layers: [1, 1], other: [1, 2] },
    max_window_layers: 1,
  });
  for (const keep of [[], [2, 0], [0, 0], [0, 3], [-1], [0.5]]) {
    await rejectsWith(() => pruneConfig(full, keep), 'INVALID_ARGUMENT');
  }
});

test('a rule by place becomes a list where layers would change their kind', () => {
  const base = { ...config, head_dim: 16, query_pre_attn_scalar: 16, num_hidden_layers: 6 };
  const gemma = { ...base, model_type: 'gemma3_text', sliding_window: 8, sliding_window_pattern: 3 };
  const kinds = (...letters: string[]) =>
    letters.map(letter => (letter === 's' ? 'sliding_attention' : 'full_attention'));
  // The rule says so: s s f s s f.
  const { sliding_window_pattern, ...rest } = gemma;
  assert.equal(pruneConfig(gemma, [0, 1, 2]), { ...gemma, num_hidden_layers: 3 });
  assert.equal(pruneConfig(gemma, [0, 2, 3, 5]), {
    ...rest,
    num_hidden_layers: 4,
    layer_types: kinds('s', 'f', 's', 'f'),
  });
  const smol = { ...base, model_type: 'smollm3', no_rope_layer_interval: 2 };
  const { no_rope_layer_interval, ...others } = smol;
  assert.equal(pruneConfig(smol, [0, 2, 3]), {
    ...others,
    num_hidden_layers: 3,
    no_rope_layers: [1, 1, 0],
    layer_types: kinds('f', 'f', 'f'),
  });
  // 28 full layers unless max_window_layers says otherwise.
  const qwen = { ...base, model_type: 'qwen2', num_hidden_layers: 30, use_sliding_window: true };
  const kept = Array.from({ length: 29 }, (_, layer) => layer + 1);
  const pruned = pruneConfig(qwen, kept);
  assert.equal((pruned.layer_types as string[]).slice(25), kinds('f', 'f', 's', 's'));
  // Within the part of the file that describes the layers; the eyes keep theirs.
  const eyes = { num_hidden_layers: 6, image_mean: [1, 2, 3, 4, 5, 6] };
  const whole = { model_type: 'gemma3', text_config: gemma, vision_config: eyes };
  const seen = pruneConfig(whole, [0, 1]);
  assert.equal(seen, { ...whole, text_config: { ...gemma, num_hidden_layers: 2 } });
});

test.run();
