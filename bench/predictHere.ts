import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Device } from '../engine/index.js';
import { generate, Model, readArchitecture } from '../model/index.js';
import { type DeviceSpeed, planPrune, prefillSeconds, prune, tokenSeconds } from '../replaceme/index.js';
import type { Clock } from './clock.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  right,
} from './measure.js';
import { benchPeak } from './peak.js';
import type { PeakRates } from './peakRates.js';
import { prefill, someTokens } from './prefill.js';

/** A prediction beside what was measured. */
export interface Predicted {
  readonly name: string;
  readonly unit: string;
  readonly predicted: number;
  readonly measured: number;
}

export interface PredictionCheck extends Benchmark {
  readonly model: string;
  readonly peak: PeakRates;
  readonly compared: readonly Predicted[];
}

/** A device's speed by its measured peaks. */
const speedOf = ({ info, features }: Device, peak: PeakRates): DeviceSpeed => ({
  f32Gflops: peak.f32Gflops,
  memoryGigabytes: Math.max(peak.readGigabytes, peak.copyGigabytes),
  uploadGigabytes: peak.uploadGigabytes,
  ...{ dispatchMicroseconds: peak.dispatchMicroseconds, roundTripMicroseconds: peak.roundTripMicroseconds },
  ...{ info, features },
});

const PREFILLS = [64, 256];
const RUNS = 3;
const [DECODED, PROMPT] = [16, 16];
/** Phases that compute; the others read and write files. */
const COMPUTING: readonly string[] = ['select', 'fit'];

/**
 * Seconds of work: by the clock; on a software adapter those of its cores, divided by their number, which other programs on the
 * machine do not lengthen.
 */
async function secondsOf({ info }: Device, work: () => Promise<unknown>): Promise<number> {
  const [started, before] = [performance.now(), process.cpuUsage()];
  await work();
  if (info.kind === 'gpu') return (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1e6 / availableParallelism();
}

/** Tokens a second of prefill and decoding. */
async function checkModel(model: Model, speed: DeviceSpeed): Promise<Predicted[]> {
  const { device, arch } = model;
  const compared: Predicted[] = [];
  const unit = 'tokens/s';
  for (const length of PREFILLS.filter(tokens => tokens <= arch.contextLength)) {
    const ids = someTokens(length, arch.vocab);
    await prefill(model, ids);
    const seconds = await secondsOf(device, async () => {
      for (let run = 0; run < RUNS; run++) await prefill(model, ids);
    });
    const predicted = length / prefillSeconds(speed, arch, length);
    compared.push({ name: `prefill ${length}`, unit, predicted, measured: (RUNS * length) / seconds });
  }
  const prompt = someTokens(PROMPT, arch.vocab);
  const written = (maxTokens: number) =>
    secondsOf(device, () => generate(model, prompt, { maxTokens, eosIds: [] }));
  await written(2);
  const seconds = (await written(1 + DECODED)) - (await written(1));
  const predicted = 1 / tokenSeconds(speed, arch, PROMPT + DECODED / 2);
  return [...compared, { name: 'decode', unit, predicted, measured: DECODED / seconds }];
}

/** Seconds of the phases of a prune that compute. */
async function checkPrune(
  device: Device,
  folder: string,
  tokens: number,
  speed: DeviceSpeed,
): Promise<Predicted[]> {
  const { layers } = await readArchitecture(folder);
  const options = {
    ...{ device, layers: Math.max(1, Math.floor(layers / 4)), select: 'cosine', tokens },
    report: 'none' as const,
  };
  const plan = await planPrune(folder, { ...options, speed });
  const temporary = await mkdtemp(join(tmpdir(), 'rm-engine-predict-'));
  try {
    // The first one compiles.
    await prune(folder, join(temporary, 'warm-up'), options);
    let phases: readonly { readonly name: string; readonly seconds: number }[] = [];
    const seconds = await secondsOf(device, async () => {
      ({ phases } = await prune(folder, join(temporary, 'pruned'), options));
    });
    const clock = phases.reduce((sum, phase) => sum + phase.seconds, 0);
    return plan.phases.flatMap(({ name, seconds: predicted }) => {
      const found = phases.find(phase => phase.name === name);
      if (!found || !COMPUTING.includes(name)) return [];
      return [{ name: `prune: ${name}`, unit: 's', predicted, measured: (seconds * found.seconds) / clock }];
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/**
 * Compares predictions by the device's peaks, measured by the same clock, with measurements: prefill, decoding and the phases
 * of a prune by `refit` that compute.
 */
export async function checkPrediction(
  device: Device,
  folder: string,
  name: string,
  tokens: number,
): Promise<PredictionCheck> {
  const clock: Clock = async (record, repeats) =>
    (1000 / repeats) *
    (await secondsOf(device, async () => {
      for (let i = 0; i < repeats; i++) record(device.recorder);
      await device.recorder.finish();
    }));
  const { peak } = await benchPeak(device, { samples: 3, clock });
  const speed = speedOf(device, peak);
  using model = await Model.load(device, folder);
  const compared = await checkModel(model, speed);
  model.dispose();
  compared.push(...(await checkPrune(device, folder, tokens, speed)));
  return {
    ...{ bench: 'predict', ...environment(device), model: name, peak, compared },
    metrics: compared.map(({ name, measured, unit }) => ({
      ...{ name, value: measured, unit, better: unit === 's' ? ('lower' as const) : ('higher' as const) },
    })),
  };
}

/** Predicted time / measured time. */
export const timeRatio = ({ unit, predicted, measured }: Predicted): number =>
  unit === 'tokens/s' ? measured / predicted : predicted / measured;

export const checkText = (result: PredictionCheck): BenchText => ({
  description: `${result.model}, ${result.adapter.kind === 'gpu' ? 'wall clock' : 'time of the cores / their number'}, ${describeEnvironment(result)}`,
  tables: [
    {
      columns: [
        left('what'),
        left('unit'),
        right('predicted'),
        right('measured'),
        right('predicted / measured time'),
      ],
      rows: result.compared.map(item => [
        ...[item.name, item.unit, digits(item.predicted), digits(item.measured)],
        timeRatio(item).toFixed(2),
      ]),
    },
  ],
  remarks: [
    `Predicted from this adapter's own peaks (${digits(result.peak.f32Gflops)} GFLOP/s of multiply-adds, ${digits(result.peak.readGigabytes)} GB/s read): it shows whether the model of speed has the right form, not what a GPU does.`,
  ],
});
