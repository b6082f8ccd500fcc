import { type Device, downloadF32, Tensor } from '../../engine/index.js';
import { cardOf, type DeviceSpeed } from '../../replaceme/index.js';
import { clockOf } from '../clock.js';
import { digits, left, right, wallTime } from '../measure.js';
import { dispatchTimes, fmaRate, memoryRates } from '../peak.js';
import { INVOCATIONS, type MatrixUnit, probeMatrix, SUBGROUP_SIZE_AT } from '../probes.js';
import type { StepRun } from './stepRun.js';

const MIB = 2 ** 20;
/** About how long a sample of the matrix units takes. */
const SAMPLE_MS = 10;

const samplesOf = ({ info }: Device) => ({ samples: info.kind === 'software' ? 1 : 3 });

/** GFLOP/s of matrix units with operands of f16. */
async function matrixRate(device: Device, unit: MatrixUnit): Promise<number> {
  const software = device.info.kind === 'software';
  using out = Tensor.create(device, [INVOCATIONS * (software ? 8 : 2048)]);
  const clock = clockOf(device);
  let [flops, subgroup] = [0, 0];
  const run = (iterations: number) =>
    clock(rec => {
      flops = probeMatrix(rec, out, { unit, subgroup, iterations });
    }, 1);
  await run(1);
  subgroup = (await downloadF32(out))[SUBGROUP_SIZE_AT]!;
  let iterations = 16;
  while ((await run(iterations)) < SAMPLE_MS / 2 && iterations < 1 << 20) iterations *= 2;
  let best = 0;
  for (let i = 0; i < samplesOf(device).samples; i++) {
    const milliseconds = await run(iterations);
    best = Math.max(best, flops / milliseconds / 1e6);
  }
  return best;
}

/** GB/s of writes from the host in pieces of this size. */
async function uploadRate(device: Device, bytes: number, piece: number): Promise<number> {
  using target = Tensor.create(device, [bytes / 4]);
  const host = new Uint8Array(piece);
  let fastest = Number.POSITIVE_INFINITY;
  for (let sample = 0; sample <= samplesOf(device).samples; sample++) {
    const milliseconds = await wallTime(async () => {
      for (let at = 0; at < bytes; at += piece) device.gpu.queue.writeBuffer(target.buffer.gpu, at, host);
      await device.recorder.finish();
    });
    // The first one touches memory that is new.
    if (sample > 0) fastest = Math.min(fastest, milliseconds);
  }
  return bytes / fastest / 1e6;
}

/** The most that this device reaches in arithmetic and memory, and what transfers, dispatches and waiting cost. */
export async function peakStep(run: StepRun): Promise<void> {
  const rows: string[][] = [];
  const rates: Partial<Record<keyof DeviceSpeed, number>> = {};
  const tell = (name: string, value: number, unit: string, predicted?: number) => {
    run.metric(name, value, unit, { predicted });
    rows.push([name, digits(value), unit]);
  };
  await run.piece(
    'rates of arithmetic',
    async device => {
      const samples = samplesOf(device);
      run.detail('clock', device.profiler ? 'GPU timestamps' : 'wall clock');
      const f32 = await fmaRate(device, 'f32', samples);
      run.detail('f32Gflops', f32);
      rates.f32Gflops = f32;
      const card = cardOf(device.info.device);
      tell('multiply-add f32', f32 / 1000, 'TFLOP/s', card && card.f32Gflops / 1000);
      if (device.features.f16) {
        const f16 = await fmaRate(device, 'f16', samples);
        run.detail('f16Gflops', f16);
        tell('multiply-add f16', f16 / 1000, 'TFLOP/s');
      }
    },
    { profile: true },
  );
  await run.piece(
    'matrix units',
    async device => {
      const { f16, subgroups, subgroupMatrix } = device.features;
      if (!f16 || !subgroups || !subgroupMatrix) return;
      let best = 0;
      for (const { component, result, ...extents } of device.info.subgroupMatrixConfigs) {
        if (component !== 'f16' || (result !== 'f16' && result !== 'f32') || run.left <= 0) continue;
        const unit: MatrixUnit = { component, result, ...extents };
        const rate = await matrixRate(device, unit);
        if (result === 'f32') best = Math.max(best, rate);
        tell(`matrix units f16 to ${result}, ${unit.m}x${unit.n}x${unit.k}`, rate / 1000, 'TFLOP/s');
      }
      if (best <= 0) return;
      run.detail('matrixGflops', best);
      rates.matrixGflops = best;
    },
    { profile: true },
  );
  await run.piece(
    'rates of memory',
    async device => {
      const { readGigabytes, copyGigabytes, bufferCopyGigabytes, downloadGigabytes } = await memoryRates(
        device,
        samplesOf(device),
      );
      const memory = Math.max(readGigabytes, copyGigabytes);
      run.detail('memoryGigabytes', memory);
      rates.memoryGigabytes = memory;
      tell('memory, read', readGigabytes, 'GB/s', cardOf(device.info.device)?.memoryGigabytes);
      tell('memory, read and write', copyGigabytes, 'GB/s');
      tell('memory, copy of buffers', bufferCopyGigabytes, 'GB/s');
      tell('download', downloadGigabytes, 'GB/s');
    },
    { profile: true },
  );
  await run.piece('uploads and dispatches', async device => {
    const bytes = (device.info.kind === 'software' ? 64 : 512) * MIB;
    for (const size of [1, 4, 16]) {
      if (run.left <= 0) break;
      const rate = await uploadRate(device, bytes, size * MIB);
      rates.uploadGigabytes = Math.max(rates.uploadGigabytes ?? 0, rate);
      tell(`upload in pieces of ${size} MiB`, rate, 'GB/s', cardOf(device.info.device)?.uploadGigabytes);
    }
    const times = await dispatchTimes(device, samplesOf(device));
    tell('recording a dispatch on the host', times.encodeMicroseconds, 'us');
    tell('a dispatch in a row of 1000 that depend on each other', times.dispatchMicroseconds, 'us');
    tell('a dispatch waited for alone', times.roundTripMicroseconds, 'us');
    const { dispatchMicroseconds, roundTripMicroseconds } = times;
    if (rates.f32Gflops && rates.memoryGigabytes && rates.uploadGigabytes)
      run.detail('rates', { ...rates, dispatchMicroseconds, roundTripMicroseconds });
  });
  run.table('Peak', { columns: [left('what'), right('rate'), left('unit')], rows });
}
