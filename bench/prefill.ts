import { downloadF32, ensure, Scope, seededRandom } from '../engine/index.js';
import { Batch, finalNorm, forward, type Model, tokenLogits } from '../model/index.js';
import { layerFlopsPerToken } from '../replaceme/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  type MeasureOptions,
  medianTime,
  right,
} from './measure.js';

export interface PrefillBenchmark extends Benchmark {
  readonly model: string;
  readonly tokens: number;
  readonly samples: number;
  readonly milliseconds: number;
  readonly tokensPerSecond: number;
  readonly gflops: number;
}

/** Random token ids, the same in every run. */
export function someTokens(count: number, vocab: number): number[] {
  const random = seededRandom(1);
  return Array.from({ length: count }, () => Math.floor(random() * vocab));
}

/** Runs one sequence through all layers and downloads the logits of its last token. */
export async function prefill(model: Model, ids: readonly number[]): Promise<Float32Array> {
  const { device } = model;
  using scope = new Scope(device);
  using batch = new Batch(device, [ids]);
  const hidden = scope.own(forward(model, batch, { lastToken: true }));
  const logits = scope.own(tokenLogits(model, scope.own(finalNorm(model, hidden))));
  return await downloadF32(logits);
}

/**
 * Measures tokens per second of one sequence of `tokens` tokens.
 *
 * @param name names the model in tables and baselines.
 * @throws RmError INVALID_ARGUMENT for a sequence longer than the model's context.
 */
export async function benchPrefill(
  model: Model,
  name: string,
  { tokens = 512, samples = 7, ...options }: MeasureOptions & { readonly tokens?: number } = {},
): Promise<PrefillBenchmark> {
  const { arch, device } = model;
  ensure(
    tokens <= arch.contextLength,
    `${tokens} tokens, but the context of '${name}' is ${arch.contextLength}`,
    'Measure with fewer tokens.',
  );
  const ids = someTokens(tokens, arch.vocab);
  const milliseconds = await medianTime(() => prefill(model, ids), { samples, ...options });
  const flops = tokens * arch.layers * layerFlopsPerToken(arch, tokens) + 2 * arch.hidden * arch.vocab;
  const tokensPerSecond = (1000 * tokens) / milliseconds;
  return {
    ...{ bench: 'prefill', ...environment(device), model: name, tokens, samples },
    ...{ milliseconds, tokensPerSecond, gflops: flops / milliseconds / 1e6 },
    metrics: [
      { name: `${name}, ${tokens} tokens`, value: tokensPerSecond, unit: 'tokens/s', better: 'higher' },
    ],
  };
}

export const prefillText = (result: PrefillBenchmark): BenchText => ({
  description: `one sequence, logits of its last token only, wall clock, median of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left('model'), right('tokens'), right('ms'), right('tokens/s'), right('GFLOP/s')],
      rows: [
        [
          ...[result.model, `${result.tokens}`, digits(result.milliseconds)],
          ...[digits(result.tokensPerSecond), digits(result.gflops)],
        ],
      ],
    },
  ],
});
