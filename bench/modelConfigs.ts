import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const llama = (
  [hidden, intermediate, layers, heads]: readonly [number, number, number, number],
  more: Readonly<Record<string, unknown>> = {},
): Readonly<Record<string, unknown>> => ({
  ...{ model_type: 'llama', architectures: ['LlamaForCausalLM'], hidden_act: 'silu', rms_norm_eps: 1e-5 },
  ...{ hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: layers },
  ...{ num_attention_heads: heads, num_key_value_heads: 8, vocab_size: 128_256 },
  ...{ max_position_embeddings: 8192, rope_theta: 500_000, tie_word_embeddings: false },
  ...{ torch_dtype: 'bfloat16', ...more },
});

/** config.json of well-known models, as far as time and memory depend on it. */
export const modelConfigs: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'Llama-3.2-1B': llama([2048, 8192, 16, 32], { head_dim: 64, tie_word_embeddings: true }),
  'Llama-3-8B': llama([4096, 14_336, 32, 32]),
  'Qwen2.5-32B': llama([5120, 27_648, 64, 40], {
    ...{ model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'], rope_theta: 1e6, vocab_size: 152_064 },
  }),
  'Llama-3-70B': llama([8192, 28_672, 80, 64]),
};

/** Runs `work` with a folder for each model that holds its config.json alone, which is removed afterwards. */
export async function withConfigFolders<T>(
  work: (folderOf: (name: string) => string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'rm-engine-configs-'));
  try {
    for (const [name, config] of Object.entries(modelConfigs)) {
      await mkdir(join(folder, name));
      await writeFile(join(folder, name, 'config.json'), JSON.stringify(config));
    }
    return await work(name => join(folder, name));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
