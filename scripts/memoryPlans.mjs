// Prints the table of docs/memory.md: what a prune of well-known models takes on cards of several sizes. Usage after a build:
// node scripts/memoryPlans.mjs
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatBytes, formatSeconds } from '../dist/engine/format.js';
import { planPrune } from '../dist/replaceme/index.js';

const shape = (hidden, intermediate, layers, heads, kvHeads, vocab, more = {}) => ({
  ...{ model_type: 'llama', architectures: ['LlamaForCausalLM'], hidden_act: 'silu', rms_norm_eps: 1e-5 },
  ...{ hidden_size: hidden, intermediate_size: intermediate, num_hidden_layers: layers, vocab_size: vocab },
  ...{ num_attention_heads: heads, num_key_value_heads: kvHeads, max_position_embeddings: 8192 },
  ...{ rope_theta: 500000, tie_word_embeddings: false, torch_dtype: 'bfloat16', ...more },
});
const models = {
  'Llama-3.2-1B': shape(2048, 8192, 16, 32, 8, 128256, { head_dim: 64, tie_word_embeddings: true }),
  'Llama-3-8B': shape(4096, 14336, 32, 32, 8, 128256),
  'Qwen2.5-32B': shape(5120, 27648, 64, 40, 8, 152064, {
    ...{ model_type: 'qwen2', architectures: ['Qwen2ForCausalLM'], rope_theta: 1e6 },
  }),
  'Llama-3-70B': shape(8192, 28672, 80, 64, 8, 128256),
};
const gigabytes = [24, 48, 80, 141];

const weights = {
  device: 'on the device',
  streamed: 'two layers at a time',
  'one by one': 'one layer at a time',
};

/** A plan in a cell: device memory, where weights and states are, host memory. */
async function cell(model, memory) {
  const assume = { name: 'card', memory: memory * 1e9, matmulGflops: 38000, uploadGigabytes: 4 };
  try {
    const { memory: bytes, placement, batchTokens, phases } = await planPrune(model, { ratio: 0.25, assume });
    const states =
      placement.states.place === 'host' ? `, states on the host (${formatBytes(bytes.host)})` : '';
    const seconds = phases.reduce((sum, phase) => sum + phase.seconds, 0);
    return `${formatBytes(bytes.total)}: weights ${weights[placement.weights]}${states}, ${batchTokens} rows, ${formatSeconds(seconds)}`;
  } catch (error) {
    return `${error.message}. ${error.fix}`;
  }
}

const folder = mkdtempSync(join(tmpdir(), 'memory-plans-'));
try {
  const lines = [
    `| | ${gigabytes.map(size => `${size} GB`).join(' | ')} |`,
    `|---${'|---'.repeat(gigabytes.length)}|`,
  ];
  for (const [name, config] of Object.entries(models)) {
    const path = join(folder, name);
    mkdirSync(path);
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    const cells = [];
    for (const memory of gigabytes) cells.push(await cell(path, memory));
    lines.push(`| ${name} | ${cells.join(' | ')} |`);
  }
  process.stdout.write(`${lines.join('\n')}\n`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
