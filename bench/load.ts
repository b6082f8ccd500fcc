import { type Device, Scope } from '../engine/index.js';
import { type Checkpoint, openCheckpoint, readArchitecture, WeightLoader } from '../model/index.js';
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

export interface LoadBenchmark extends Benchmark {
  readonly model: string;
  readonly bytes: number;
  readonly samples: number;
  /** Medians over the samples. */
  readonly reading: number;
  readonly loading: number;
  readonly writing: number;
  /** Medians of the ratios within a sample, which a busy machine moves less. */
  readonly timesReading: number;
  readonly timesFaster: number;
}

/** Bytes read at a time. */
const PIECE = 16 << 20;

/** Tensors that the model reads from the file, and their bytes there. */
const tensorsOf = (checkpoint: Checkpoint) =>
  checkpoint.names.filter(name => !checkpoint.opaque(name)).map(name => checkpoint.info(name));

/** Reads all weights into one buffer: no loader can be faster. */
async function readAll(checkpoint: Checkpoint, buffer: Uint8Array): Promise<void> {
  for (const { name, byteLength } of tensorsOf(checkpoint)) {
    for (let at = 0; at < byteLength; at += PIECE) {
      await checkpoint.readInto(name, at, buffer.subarray(0, Math.min(PIECE, byteLength - at)));
    }
  }
}

/**
 * How weights were loaded before there were staging buffers: read into fresh arrays of 64 MiB, written to the queue 4 MiB
 * at a time, and the queue drained every 32 MiB.
 */
async function writeAll(device: Device, checkpoint: Checkpoint): Promise<void> {
  const [fresh, chunk, window] = [64 << 20, 4 << 20, 32 << 20];
  using scope = new Scope(device);
  for (const { name, byteLength } of tensorsOf(checkpoint)) {
    const { buffer } = scope.tensor([Math.ceil(byteLength / 4)], 'u32', name);
    device.recorder.flush();
    for (let at = 0; at < byteLength; at += fresh) {
      const bytes = await checkpoint.readRange(name, at, Math.min(fresh, byteLength - at));
      for (let from = 0; from < bytes.byteLength; from += chunk) {
        const count = Math.floor(Math.min(chunk, bytes.byteLength - from) / 4) * 4;
        device.gpu.queue.writeBuffer(buffer.gpu, at + from, bytes, from, count);
        if ((from + chunk) % window === 0) await device.drain();
      }
    }
  }
  await device.recorder.finish();
}

/**
 * Times three ways through a model's weights, one after the other in each sample: reading the files alone, loading them
 * to the device, and loading as it was done before staging buffers.
 *
 * @param name names the model in tables and baselines.
 */
export async function benchLoad(
  device: Device,
  folder: string,
  name: string,
  { samples = 5, signal }: MeasureOptions = {},
): Promise<LoadBenchmark> {
  const arch = await readArchitecture(folder);
  const checkpoint = await openCheckpoint(folder);
  try {
    const bytes = tensorsOf(checkpoint).reduce((sum, { byteLength }) => sum + byteLength, 0);
    const load = async () => {
      using scope = new Scope(device);
      const loader = new WeightLoader(device, checkpoint, arch.tensorNames);
      await loader.outer(scope, arch.vision);
      for (let layer = 0; layer < arch.layers; layer++) await loader.layer(layer, scope);
      await device.recorder.finish();
    };
    const buffer = new Uint8Array(PIECE);
    const ways = [() => readAll(checkpoint, buffer), load, () => writeAll(device, checkpoint)] as const;
    const times: number[][] = [];
    // The first round brings the files into the page cache and the buffers into the pool.
    for (let sample = 0; sample <= samples; sample++) {
      const round: number[] = [];
      for (const way of ways) {
        signal?.throwIfAborted();
        round.push(await wallTime(way));
      }
      if (sample > 0) times.push(round);
    }
    const of = (value: (round: readonly number[]) => number) => median(times.map(value));
    const result = {
      ...{ bytes, samples, model: name },
      ...{ reading: of(([t]) => t!), loading: of(([, t]) => t!), writing: of(([, , t]) => t!) },
      ...{ timesReading: of(([r, l]) => l! / r!), timesFaster: of(([, l, w]) => w! / l!) },
    };
    const rate = { value: bytes / result.loading / 1e6, unit: 'GB/s', better: 'higher' } as const;
    return { bench: 'load', ...environment(device), ...result, metrics: [{ name, ...rate }] };
  } finally {
    await checkpoint.close();
  }
}

export const loadText = (result: LoadBenchmark): BenchText => ({
  description: `${digits(result.bytes / 1e9)} GB of weights in the page cache, wall clock, medians of ${result.samples}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [left(result.model), right('ms'), right('GB/s'), right('times as long as reading')],
      rows: (
        [
          ['read the files', result.reading, 1],
          ['load to the device', result.loading, result.timesReading],
          ['load without staging buffers', result.writing, result.timesReading * result.timesFaster],
        ] as const
      ).map(([way, ms, times]) => [way, digits(ms), digits(result.bytes / ms / 1e6), digits(times)]),
    },
  ],
  remarks: [`staging buffers make loading ${digits(result.timesFaster)} times as fast`],
});
