/** Fields of a config.json that nothing reads, by name. */
export interface UnknownFields {
  /** Their names speak of what a model computes. */
  readonly changing: readonly string[];
  readonly others: readonly string[];
}

/** Fields about training, generating, storing and finding a model, which never change its logits. */
const idle = [
  /^_/,
  /(^|_)(dropout|pdrop|dropout_prob)$|^(attention|attn|hidden|embedding|residual|classifier)_drop/,
  /_token_ids?$|_token_index$|_version$|^(output|return|initializer|init|router_aux|router_jitter|mamba|vision|audio)_/,
  /^(architectures|auto_map|model_type|dtype|torch_dtype|tokenizer_class|use_cache|is_decoder|is_encoder_decoder)$/,
  /^((quantization|compression)_config|vision_config|text_config|audio_config|tie_encoder_decoder|chunk_size_feed_forward)$/,
  /^(id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params|prefix|cache_implementation)$/,
  /^(pretraining_tp|use_bfloat16|torchscript|tf_legacy_loss|gradient_checkpointing|use_flash_attn|attn_implementation)$/,
  // Saved with models by transformers 4: how to generate.
  /^(temperature|top_[kp]|typical_p|num_beams|num_beam_groups|num_return_sequences|do_sample|early_stopping)$/,
  /^((encoder_)?no_repeat_ngram_size|repetition_penalty|length_penalty|diversity_penalty|exponential_decay_.*)$/,
  /^((max|min)_length|bad_words_ids|begin_suppress_tokens|suppress_tokens|remove_invalid_values|forced_.*)$/,
  // Of encoders, which language models are not.
  /^(add_cross_attention|cross_attention_hidden_size)$/,
];

/** Words that names of fields have which change what a model computes. Sizes are seen in the shapes of tensors. */
const words = new RegExp(
  `(^|[._])(${[
    'attn|attention|attend|alibi|bidirectional|causal|q|k|v|qk|qkv|kv|query|queries|key|keys|value|values|heads?',
    'rope|rotary|rope_theta|theta|mrope|position|positions|positional|context|chunk|window|sliding|local|global|interleaved?',
    'norm|norms|layernorm|rmsnorm|ln|eps|epsilon|softcap|softcapping|cap|clip|clamp|sinks?',
    'scale|scaling|scaler|multiplier|factor|beta|gamma|alpha|temperature|bias',
    'expert|experts|moe|router|routed|shared|sparse|topk|mtp|nextn',
    'mlp|ffn|ff|gate|gated|gating|act|activation|glu|hidden|intermediate|inner|layers|blocks|types?|residual|parallel|depth',
    'embed|embd|embedding|embeddings|logits?|lora|rank|latent|mixer|hybrid|mod',
    'mamba|ssm|conv|conv1d|linear|recurrent|delta|rwkv|state|convolution',
  ].join('|')})(?=$|[._])`,
);

/** Values that switch nothing on. */
function isOff(name: string, value: unknown): boolean {
  if (value === null || value === false || value === 0 || value === '') return true;
  if (value === 1) return /(scale|scaling|multiplier|factor|mod)$/.test(name);
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/** Sorts fields that nothing has read by whether they may change what a model computes. */
export function sortUnread(fields: readonly (readonly [name: string, value: unknown])[]): UnknownFields {
  const set = fields.filter(([name, value]) => {
    const last = name.slice(name.lastIndexOf('.') + 1);
    return !isOff(name, value) && !idle.some(pattern => pattern.test(last));
  });
  const names = set.map(([name]) => name);
  return {
    changing: names.filter(name => words.test(name)),
    others: names.filter(name => !words.test(name)),
  };
}
