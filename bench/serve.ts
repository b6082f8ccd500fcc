import { ensure } from '../engine/index.js';
import { type Model, ModelServer, type TextReader } from '../model/index.js';
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

export interface ServeBenchmark extends Benchmark {
  readonly model: string;
  readonly tokens: number;
  readonly requests: number;
  readonly samples: number;
  /** One request, and all requests at the same time. */
  readonly alone: Served;
  readonly together: Served;
  /** Medians of the ratios of tokens per second, and per second of CPU time, within a sample. */
  readonly ratio: number;
  readonly cpuRatio: number;
}

/** Medians. The CPU time is that of the whole process, and so of a software adapter: others on the machine do not change it. */
interface Served {
  readonly tokensPerSecond: number;
  readonly cpuMsPerToken: number;
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
  const serve = async (count: number): Promise<Served> => {
    const before = process.cpuUsage();
    const milliseconds = await wallTime(() => Promise.all(Array.from({ length: count }, request)));
    const { user, system } = process.cpuUsage(before);
    const all = count * tokens;
    return { tokensPerSecond: (1000 * all) / milliseconds, cpuMsPerToken: (user + system) / 1000 / all };
  };
  const pairs = await inTurns(
    () => serve(1),
    () => serve(requests),
    { samples, signal },
  );
  const medians = (all: readonly Served[]): Served => ({
    tokensPerSecond: median(all.map(each => each.tokensPerSecond)),
    cpuMsPerToken: median(all.map(each => each.cpuMsPerToken)),
  });
  const [alone, together] = [medians(pairs.map(([a]) => a)), medians(pairs.map(([, b]) => b))];
  return {
    ...{ bench: 'serve', ...environment(device), model: name, tokens, requests, samples },
    ...{ alone, together, ratio: median(pairs.map(([a, b]) => b.tokensPerSecond / a.tokensPerSecond)) },
    cpuRatio: median(pairs.map(([a, b]) => a.cpuMsPerToken / b.cpuMsPerToken)),
    metrics: [
      {
        ...{ name: `${name}, ${requests} requests`, unit: 'tokens/s', better: 'higher' },
        value: together.tokensPerSecond,
      },
    ],
  };
}

export const serveText = (result: ServeBenchmark): BenchText => ({
  description: `streamed completions through HTTP, greedy, ${result.tokens} new tokens each after 16, medians of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [
        ...[left('model'), right('requests'), right('tokens/s'), right('ratio')],
        ...[right('CPU ms/token'), right('ratio')],
      ],
      rows: [
        { requests: 1, served: result.alone, ratio: 1, cpuRatio: 1 },
        { ...result, served: result.together },
      ].map(({ requests, served, ratio, cpuRatio }) => [
        ...[result.model, `${requests}`, digits(served.tokensPerSecond), digits(ratio)],
        ...[digits(served.cpuMsPerToken), digits(cpuRatio)],
      ]),
    },
  ],
});
