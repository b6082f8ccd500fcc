/** Files that a model needs besides its weights. */
const description =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|preprocessor_config|processor_config)\.json$|^(merges\.txt|chat_template\.jinja|tokenizer\.model|spiece\.model)$|^additional_chat_templates\/[\w.-]+\.jinja$/;

/** Model card and licence, which a pruned model inherits. */
const papers = /^(README\.md|(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)[\w.-]*)$/i;

/** model.safetensors, its index and its shards, but no other variant ("consolidated", "pytorch_model.bin"). */
const weights = /^model(-\d{5,}-of-\d{5,})?\.safetensors$|^model\.safetensors\.index\.json$/;

/** Whether a path in a model repository is a weight file that this program reads. */
export const isWeightFile = (path: string): boolean => weights.test(path);

/** Whether a model is incomplete without this file: weights, configuration or tokenizer. */
export const isModelFile = (path: string): boolean => description.test(path) || weights.test(path);

/** Selects the files to download. A single weight file wins over shards, as in loading. */
export function filesToDownload(paths: readonly string[]): string[] {
  const single = paths.includes('model.safetensors');
  return paths.filter(path =>
    isWeightFile(path)
      ? single === (path === 'model.safetensors')
      : description.test(path) || papers.test(path),
  );
}
