import { ensure } from '../engine/index.js';
import { type Model, ModelServer, type TextReader } from '../model/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  type MeasureOptions,
  median,
  right,
  wallTime,
} from './measure.js';
import { someTokens } from './prefill.js';

export interface ServeBenchmark extends Benchmark {
  readonly model: string;
  readonly tokens: number;
  readonly requests: number;
  readonly samples: number;
  /** Tokens per second of one request, and of all requests at the same time: medians. */
  readonly alone: number;
  readonly together: number;
  /** Median of the ratios within a sample. */
  readonly ratio: number;
}

/**
 * Times requests to a server, one alone and several at the same time, in turns: streamed greedy completions of `tokens` new
 * tokens after prompts of 16, through HTTP.
 *
 * @param name names the model in tables and baselines.
 */
export async function benchServe(
  model: Model,
  reader: TextReader,
  name: string,
  {
    tokens = 64,
    requests = 4,
    samples = 3,
    signal,
  }: MeasureOptions & { readonly tokens?: number; readonly requests?: number } = {},
): Promise<ServeBenchmark> {
  const { arch, device } = model;
  ensure(16 + tokens < arch.contextLength, `${tokens} new tokens`, 'Stay within the context.');
  await using server = new ModelServer([{ name, model, reader }]);
  const address = await server.listen(0);
  let asked = 0;
  const request = async () => {
    // Each prompt is another one, which no cache has.
    const prompt = someTokens(16, arch.vocab).map(id => (id + ++asked) % arch.vocab);
    const response = await fetch(`${address}/v1/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ prompt, max_tokens: tokens, temperature: 0, stream: true, ignore_eos: true }),
      ...(signal && { signal }),
    });
    ensure(response.ok, `the server answers with ${response.status}`, 'Look at what it says.');
    await response.text();
  };
  const rate = async (count: number) => {
    const milliseconds = await wallTime(() => Promise.all(Array.from({ length: count }, request)));
    return (1000 * count * tokens) / milliseconds;
  };
  await rate(1);
  await rate(requests);
  const rates: [number, number][] = [];
  for (let sample = 0; sample < samples; sample++) {
    signal?.throwIfAborted();
    rates.push([await rate(1), await rate(requests)]);
  }
  const [alone, together] = [median(rates.map(([a]) => a)), median(rates.map(([, b]) => b))];
  return {
    ...{ bench: 'serve', ...environment(device), model: name, tokens, requests, samples },
    ...{ alone, together, ratio: median(rates.map(([a, b]) => b / a)) },
    metrics: [{ name: `${name}, ${requests} requests`, value: together, unit: 'tokens/s', better: 'higher' }],
  };
}

export const serveText = (result: ServeBenchmark): BenchText => ({
  description: `streamed completions through HTTP, greedy, ${result.tokens} new tokens each after 16, medians of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left('model'), right('requests'), right('tokens/s'), right('ratio')],
      rows: [
        [result.model, '1', digits(result.alone), '1.00'],
        [result.model, `${result.requests}`, digits(result.together), digits(result.ratio)],
      ],
    },
  ],
});
