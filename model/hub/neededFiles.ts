/** What a model is made of besides its weights, as file names in its folder. */
const description =
  /^(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|chat_template|preprocessor_config|processor_config)\.json$|^(merges\.txt|chat_template\.jinja|tokenizer\.model|spiece\.model)$|^additional_chat_templates\/[\w.-]+\.jinja$/;

/** Its card and the terms it comes under, which a pruned model carries on. */
const papers = /^(README\.md|(LICEN[CS]E|NOTICE|USE_POLICY|COPYING)[\w.-]*)$/i;

/** model.safetensors, its index and its shards; no other variant of the weights ("consolidated", "pytorch_model.bin"). */
const weights = /^model(-\d{5,}-of-\d{5,})?\.safetensors$|^model\.safetensors\.index\.json$/;

/** Whether a file of a model repository, by its path in it, holds weights that are read. */
export const isWeightFile = (path: string): boolean => weights.test(path);

/** Whether a file says how the model computes or reads text; without it the model is not whole. */
export const isModelFile = (path: string): boolean => description.test(path) || weights.test(path);

/** The files of a repository that are worth downloading. A single file of weights wins over shards, as when loading. */
export function filesToDownload(paths: readonly string[]): string[] {
  const single = paths.includes('model.safetensors');
  return paths.filter(path =>
    isWeightFile(path)
      ? single === (path === 'model.safetensors')
      : description.test(path) || papers.test(path),
  );
}
