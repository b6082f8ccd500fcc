import { ensure } from '../engine/index.js';
import { generateTogether, type Model } from '../model/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  inTurns,
  left,
  type MeasureOptions,
  median,
  right,
  wallTime,
} from './measure.js';
import { someTokens } from './prefill.js';

export interface TogetherBenchmark extends Benchmark {
  readonly model: string;
  readonly tokens: number;
  readonly together: number;
  readonly samples: number;
  /** Tokens per second: medians. */
  readonly alone: number;
  readonly beside: number;
  /** Median of the ratios within a sample. */
  readonly ratio: number;
}

/** As calibration text is sampled. */
const sampling = { temperature: 1, topP: 0.95 };

/**
 * Times sampled texts written one alone and several together, in turns: `tokens` new tokens each after a prompt of 16.
 *
 * @param name names the model in tables and baselines.
 */
export async function benchTogether(
  model: Model,
  name: string,
  {
    tokens = 16,
    together = 32,
    samples = 3,
    signal,
  }: MeasureOptions & { readonly tokens?: number; readonly together?: number } = {},
): Promise<TogetherBenchmark> {
  const { arch, device } = model;
  const prompt = someTokens(16, arch.vocab);
  ensure(prompt.length + tokens < arch.contextLength, `${tokens} new tokens`, 'Stay within the context.');
  const write = async (texts: number) => {
    const requests = Array.from({ length: texts }, (_, seed) => ({ prompt, maxTokens: tokens, seed }));
    const milliseconds = await wallTime(() => generateTogether(model, requests, { ...sampling, signal }));
    return (1000 * texts * tokens) / milliseconds;
  };
  const rates = await inTurns(
    () => write(1),
    () => write(together),
    { samples, signal },
  );
  const [alone, beside] = [median(rates.map(([a]) => a)), median(rates.map(([, b]) => b))];
  return {
    ...{ bench: 'together', ...environment(device), model: name, tokens, together, samples },
    ...{ alone, beside, ratio: median(rates.map(([a, b]) => b / a)) },
    metrics: [{ name: `${name}, ${together} texts`, value: beside, unit: 'tokens/s', better: 'higher' }],
  };
}

export const togetherText = (result: TogetherBenchmark): BenchText => ({
  description: `sampled (temperature 1, top-p 0.95), ${result.tokens} new tokens each after 16, wall clock with the prompt, medians of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left('model'), right('texts'), right('tokens/s'), right('ratio')],
      rows: [
        [result.model, '1', digits(result.alone), '1.00'],
        [result.model, `${result.together}`, digits(result.beside), digits(result.ratio)],
      ],
    },
  ],
});
