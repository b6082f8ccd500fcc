import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { asBytes, asU16, byteSize, elementCount, encodeFromF32, ensure } from '../engine/index.js';
import { normals } from '../kernels/index.js';
import {
  architectureFromConfig,
  expectedTensors,
  writeOutputFile,
  writeSafetensors,
} from '../model/index.js';
import { byteTokenizer } from './byteTokenizer.js';

/** Dimensions of a Llama with random weights. */
export interface SyntheticModel {
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  /** Query heads; each has hidden / heads columns. */
  readonly heads: number;
  /** Key and value heads (default: `heads`). */
  readonly kvHeads?: number;
  /** Tokens of the vocabulary; the tokenizer uses the first 257 (default 260). */
  readonly vocab?: number;
  /** Whether the output head is the embedding (default true). */
  readonly tied?: boolean;
  readonly contextLength?: number;
  /** Files of the weights, as even as whole tensors allow (default 1). */
  readonly shards?: number;
  readonly seed?: number;
}

/** The files that writeSyntheticCheckpoint wrote. */
export interface SyntheticCheckpoint {
  /** Data bytes of all tensors. */
  readonly bytes: number;
  /** Names of the weight files, without folder. */
  readonly files: readonly string[];
}

/** Bytes generated and written at a time. */
const PIECE = 16 << 20;
/** Size of the tables from which weights are drawn. */
const DRAWN = 1 << 16;

/** config.json of such a model. */
export function syntheticConfig(model: SyntheticModel): Record<string, unknown> {
  const { layers, hidden, intermediate, heads, kvHeads = heads, vocab = 260 } = model;
  ensure(hidden % heads === 0, `${hidden} columns for ${heads} heads`, 'Choose a multiple.');
  ensure(vocab >= 257, `a vocabulary of ${vocab} tokens`, 'The tokenizer has 257.');
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_size: hidden,
    intermediate_size: intermediate,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: hidden / heads,
    vocab_size: vocab,
    max_position_embeddings: model.contextLength ?? 2048,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    tie_word_embeddings: model.tied ?? true,
    hidden_act: 'silu',
    attention_bias: false,
    mlp_bias: false,
    eos_token_id: 256,
    torch_dtype: 'bfloat16',
  };
}

/** Draws `count` bf16 values from `table` with xorshift32 (Marsaglia 2003); yields their bytes in pieces. */
function* draws(table: Uint16Array, count: number, seed: number): Generator<Uint8Array> {
  let state = (Math.imul(seed + 1, 0x9e3779b1) >>> 0) | 1;
  for (let left = count; left > 0; ) {
    const piece = new Uint16Array(Math.min(left, PIECE / 2));
    for (let i = 0; i < piece.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      piece[i] = table[state >>> 16]!;
    }
    left -= piece.length;
    yield asBytes(piece);
  }
}

/**
 * Writes a Llama with random bf16 weights and a byte tokenizer into a folder, piece by piece, so that host memory does
 * not grow with the model. Norms are near 1 and matrices normal with variance 1 / columns, which keeps hidden states
 * finite over any number of layers. The same dimensions and seed give the same bytes.
 *
 * @param folder is created if missing.
 * @throws RmError INVALID_ARGUMENT, OUTPUT_FAILED.
 */
export async function writeSyntheticCheckpoint(
  folder: string,
  model: SyntheticModel,
): Promise<SyntheticCheckpoint> {
  const config = syntheticConfig(model);
  const { shards = 1, seed = 0 } = model;
  const tensors = expectedTensors(architectureFromConfig(config, 'config.json'));
  const sizes = tensors.map(({ shape }) => elementCount(shape) * byteSize('bf16'));
  const bytes = sizes.reduce((sum, size) => sum + size, 0);
  await mkdir(folder, { recursive: true });
  const normal = normals(DRAWN, seed + 1);
  const tableOf = (scale: number, offset: number) =>
    asU16(
      encodeFromF32(
        normal.map(value => offset + scale * value),
        'bf16',
      ),
    );
  const tables = new Map<number, Uint16Array>();
  const matrixTable = (columns: number) => {
    const table = tables.get(columns) ?? tableOf(1 / Math.sqrt(columns), 0);
    tables.set(columns, table);
    return table;
  };
  const normTable = tableOf(0.1, 1);
  const written = await writeSafetensors(
    folder,
    tensors.map(({ name, shape }, i) => ({
      name,
      dtype: 'bf16' as const,
      shape,
      bytes: () =>
        draws(
          shape.length === 1 ? normTable : matrixTable(shape.at(-1)!),
          elementCount(shape),
          seed * tensors.length + i,
        ),
    })),
    { maxShardBytes: shardLimit(sizes, shards) },
  );
  const write = (name: string, value: unknown) =>
    writeOutputFile(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);
  await write('config.json', config);
  await write('tokenizer.json', byteTokenizer());
  await write('tokenizer_config.json', { tokenizer_class: 'PreTrainedTokenizerFast', eos_token: '<end>' });
  await write('generation_config.json', { eos_token_id: 256 });
  return { bytes, files: written.filter(name => name.endsWith('.safetensors')) };
}

/** The smallest file size that fits tensors of these sizes, in order, into at most `shards` files. */
function shardLimit(sizes: readonly number[], shards: number): number {
  const filesAt = (limit: number) => {
    let [files, filled] = [1, 0];
    for (const size of sizes) {
      if (filled > 0 && filled + size > limit) [files, filled] = [files + 1, 0];
      filled += size;
    }
    return files;
  };
  let [low, high] = [Math.max(...sizes), sizes.reduce((sum, size) => sum + size, 0)];
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    if (filesAt(middle) <= shards) high = middle;
    else low = middle + 1;
  }
  return high;
}
