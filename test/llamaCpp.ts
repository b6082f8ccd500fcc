import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import * as assert from 'uvu/assert';
import type { LlamaRequest, LlamaScores } from './llamaScores.js';

/** The folder of node-llama-cpp, where there is one; .ci/run names it. */
export const llamaCpp = process.env.RM_LLAMA_CPP;

const scores = fileURLToPath(new URL('llamaScores.js', import.meta.url));

/** What llama.cpp makes of GGUF files. */
export function askLlamaCpp(requests: readonly LlamaRequest[]): LlamaScores[] {
  const { status, stdout, stderr } = spawnSync(process.execPath, [scores, llamaCpp!], {
    input: JSON.stringify(requests),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  assert.is(status, 0, stderr);
  return JSON.parse(stdout) as LlamaScores[];
}

/** log p of every next token, from logits [ids, vocab]. */
export function logProbabilities(values: Float32Array, ids: readonly number[]): number[] {
  const vocab = values.length / ids.length;
  return ids.slice(1).map((next, i) => {
    const row = values.subarray(i * vocab, (i + 1) * vocab);
    const largest = row.reduce((a, b) => Math.max(a, b));
    return row[next]! - largest - Math.log(row.reduce((sum, value) => sum + Math.exp(value - largest), 0));
  });
}
