import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { byteTokenizer } from '../bench/byteTokenizer.js';
import { encodeFromF32 } from '../engine/dtype.js';
import { expectedTensors } from '../model/architecture/architecture.js';
import { writeSafetensors } from '../model/checkpoint/safetensorsWriter.js';
import { architectureFromConfig } from '../model/families/index.js';
import { normals } from './gpu.js';

export const tinyConfig = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 6,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 260,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  tie_word_embeddings: true,
  hidden_act: 'silu',
  attention_bias: false,
  mlp_bias: false,
  eos_token_id: 256,
  torch_dtype: 'bfloat16',
  _layer_marks: ['a', 'b', 'c', 'd', 'e', 'f'],
};

/**
 * Writes a random Llama of 6 layers with a byte tokenizer into a folder.
 *
 * @param change may alter the config, or a tensor's values by name.
 */
export async function writeTinyModel(
  folder: string,
  change: {
    config?: Record<string, unknown>;
    values?: (name: string, values: Float32Array) => void;
    maxShardBytes?: number;
  } = {},
): Promise<void> {
  const config = { ...tinyConfig, ...change.config };
  const arch = architectureFromConfig(config, 'config.json');
  await writeSafetensors(
    folder,
    expectedTensors(arch).map(({ name, shape }, seed) => ({
      name,
      dtype: 'bf16' as const,
      shape,
      bytes: () => {
        const columns = shape.at(-1)!;
        const norm = shape.length === 1;
        const values = normals(
          shape.reduce((a, b) => a * b, 1),
          seed + 1,
        ).map(value => (norm ? 1 + 0.1 * value : value / Math.sqrt(columns)));
        change.values?.(name, values);
        return encodeFromF32(values, 'bf16');
      },
    })),
    { ...(change.maxShardBytes !== undefined && { maxShardBytes: change.maxShardBytes }) },
  );
  const write = (name: string, value: unknown) =>
    writeFileSync(join(folder, name), JSON.stringify(value, null, 2));
  write('config.json', config);
  write('tokenizer.json', byteTokenizer());
  write('tokenizer_config.json', { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '<end>' });
  write('generation_config.json', { eos_token_id: 256 });
}
