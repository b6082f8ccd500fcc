import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ensure, formatBytes, type Progress } from '../engine/index.js';
import { generate, type Model } from '../model/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  median,
  right,
} from './measure.js';
import { someTokens } from './prefill.js';

export interface DecodeBenchmark extends Benchmark {
  readonly model: string;
  readonly promptTokens: number;
  /** New tokens, without the first of every sequence, which the prompt's pass makes. */
  readonly tokens: number;
  readonly sequences: number;
  readonly millisecondsPerToken: number;
  readonly tokensPerSecond: number;
  /** GB/s, if each token reads every weight once. */
  readonly weightGigabytes: number;
  readonly dispatchesPerToken: number;
  readonly submitsPerToken: number;
  /** Bytes after minus before, garbage collected each time: JavaScript heap, array buffers, live device memory. */
  readonly growth: { readonly heapBytes: number; readonly bufferBytes: number; readonly deviceBytes: number };
}

export interface DecodeOptions {
  /** New tokens in total; sequences restart as often as needed. */
  readonly tokens?: number;
  readonly promptTokens?: number;
  /** Longest sequence; default: 512, at most the model's context. */
  readonly sequenceLength?: number;
  readonly onProgress?: Progress;
  readonly signal?: AbortSignal;
}

/** The garbage collector, even without --expose-gc. */
function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}

async function memoryInUse(model: Model, collect: () => void) {
  await model.device.recorder.finish();
  // Twice: finalisers of the first round release more.
  collect();
  await new Promise(resolve => setImmediate(resolve));
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers, device: model.device.memory.liveBytes };
}

/**
 * Measures greedy generation with the KV cache: time, dispatches and submits per token, and memory left after many
 * tokens.
 *
 * @throws RmError INVALID_ARGUMENT where the context has no room for the prompt and a token.
 */
export async function benchDecode(
  model: Model,
  name: string,
  { tokens = 256, promptTokens = 16, sequenceLength = 512, onProgress, signal }: DecodeOptions = {},
): Promise<DecodeBenchmark> {
  const { device, arch } = model;
  const { recorder } = device;
  const collect = garbageCollector();
  const prompt = someTokens(promptTokens, arch.vocab);
  const room = Math.min(sequenceLength, arch.contextLength) - promptTokens - 1;
  ensure(
    room >= 1,
    `a prompt of ${promptTokens} tokens in sequences of ${Math.min(sequenceLength, arch.contextLength)}`,
    'Use a shorter prompt or longer sequences, within the context of the model.',
  );
  // Allocated before the heap is first measured.
  const times = new Float64Array(tokens);
  const counts = { dispatches: 0, submits: 0 };
  let done = 0;
  let sequences = 0;
  const sequence = async (count: number, measured: boolean) => {
    let at = 0;
    let before = { dispatches: 0, submits: 0 };
    await generate(model, prompt, {
      maxTokens: count + 1,
      eosIds: [],
      onToken: () => {
        const now = performance.now();
        const { dispatches, submits } = recorder;
        if (at > 0 && measured) {
          times[done++] = now - at;
          counts.dispatches += dispatches - before.dispatches;
          counts.submits += submits - before.submits;
          onProgress?.({ phase: 'decode', done, total: tokens, unit: 'tokens' });
        }
        before = { dispatches, submits };
        at = now;
      },
      ...(signal && { signal }),
    });
    if (measured) sequences++;
  };
  // A whole sequence: compiles, and fills the pool and the caches by position.
  await sequence(Math.min(room, tokens), false);
  const start = await memoryInUse(model, collect);
  while (done < tokens) await sequence(Math.min(room, tokens - done), true);
  const end = await memoryInUse(model, collect);
  const millisecondsPerToken = median([...times]);
  const weightBytes = [...model.tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const tokensPerSecond = (1000 * tokens) / times.reduce((sum, time) => sum + time, 0);
  const dispatchesPerToken = counts.dispatches / tokens;
  const submitsPerToken = counts.submits / tokens;
  return {
    ...{ bench: 'decode', ...environment(device), model: name, promptTokens, tokens, sequences },
    ...{ millisecondsPerToken, tokensPerSecond, weightGigabytes: weightBytes / millisecondsPerToken / 1e6 },
    ...{ dispatchesPerToken, submitsPerToken },
    growth: {
      heapBytes: end.heap - start.heap,
      bufferBytes: end.buffers - start.buffers,
      deviceBytes: end.device - start.device,
    },
    metrics: [
      { name, value: tokensPerSecond, unit: 'tokens/s', better: 'higher' },
      { name: `${name}, dispatches a token`, value: dispatchesPerToken, unit: '', better: 'lower' },
      { name: `${name}, submits a token`, value: submitsPerToken, unit: '', better: 'lower' },
    ],
  };
}

const signed = (bytes: number): string => `${bytes < 0 ? '-' : '+'}${formatBytes(Math.abs(bytes))}`;

export const decodeText = (result: DecodeBenchmark): BenchText => ({
  description: `greedy, ${result.promptTokens} tokens of prompt, ${result.tokens} new tokens in ${result.sequences} sequences, wall clock, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [
        ...[left('model'), right('tokens/s'), right('ms/token (median)'), right('GB/s of weights')],
        ...[right('dispatches/token'), right('submits/token')],
      ],
      rows: [
        [
          ...[result.model, digits(result.tokensPerSecond), digits(result.millisecondsPerToken)],
          ...[
            digits(result.weightGigabytes),
            result.dispatchesPerToken.toFixed(1),
            result.submitsPerToken.toFixed(2),
          ],
        ],
      ],
    },
  ],
  remarks: [
    `Memory left after ${result.tokens} tokens, garbage collected: heap ${signed(result.growth.heapBytes)}, ` +
      `array buffers ${signed(result.growth.bufferBytes)}, device ${signed(result.growth.deviceBytes)}.`,
  ],
});
