import type { Device } from '../../engine/index.js';
import {
  type SampledCase,
  sampledAttention,
  sampledGatedMatmul,
  sampledGram,
  sampledMatmul,
  sampledRmsNorm,
} from '../../kernels/index.js';
import { type KernelTiming, measure } from '../kernels.js';
import { largeShapes } from '../largeShapes.js';
import { digits, left, percent, right } from '../measure.js';
import { predictedMilliseconds, predictedSpeed } from './predictions.js';
import type { StepRun } from './stepRun.js';

/** The device's own choice should not be slower than the fastest variant by more. */
const SLOW_CHOICE = 1.3;

function softwareShapes(): SampledCase[] {
  const heads = { heads: 9, kvHeads: 3, headDim: 64 };
  return [
    sampledGatedMatmul(64, 256, 128),
    sampledMatmul({ form: 'NT', m: 64, n: 256, k: 256, b: 'bf16' }),
    sampledAttention({ queries: 96, keys: 96, ...heads }),
    sampledGram(512, 128),
    sampledGram(512, 128, 128),
    sampledRmsNorm(512, 576),
    sampledMatmul({ form: 'NT', m: 1, n: 1024, k: 1024, b: 'bf16' }),
  ] as unknown as SampledCase[];
}

/** The rate that the device reached at the most for this kind of arithmetic, in GFLOP/s and GB/s. */
function peaksOf(run: StepRun, variant: string): { gflops?: number; gigabytes?: number } {
  const { f32Gflops, matrixGflops, memoryGigabytes } = run.earlier('peak') as Record<
    string,
    number | undefined
  >;
  const gflops = variant.startsWith('subgroupMatrix') ? matrixGflops : f32Gflops;
  return { ...(gflops && { gflops }), ...(memoryGigabytes && { gigabytes: memoryGigabytes }) };
}

/** Times all variants of a shape, on a software adapter the chosen one alone, and tells that and the fastest. */
async function timeShape(run: StepRun, device: Device, item: SampledCase): Promise<string[] | undefined> {
  const { variants } = item;
  const timed =
    device.info.kind === 'software' && variants
      ? { ...item, variants: (on: Device) => variants(on).slice(0, 1) }
      : item;
  const { timings, skipped } = await measure(device, [timed], { samples: 5, variants: true });
  for (const { reason } of skipped) run.warn(`${item.kernel} ${item.name}: not run: ${reason}`);
  const [chosen] = timings;
  if (!chosen) return undefined;
  const variantOf = ({ name }: KernelTiming) =>
    name === item.name ? 'the only one' : name.slice(item.name.length + 2);
  const fastest = timings.reduce((a, b) => (b.milliseconds < a.milliseconds ? b : a));
  const predicted = predictedMilliseconds(predictedSpeed(run, device), item);
  for (const timing of timings)
    run.metric(`${item.kernel} ${timing.name}`, timing.milliseconds, 'ms', {
      predicted: timing === chosen ? predicted : undefined,
    });
  if (chosen.milliseconds > SLOW_CHOICE * fastest.milliseconds) {
    run.warn(
      `${item.kernel} ${item.name}: '${variantOf(chosen)}' is chosen and takes ${(chosen.milliseconds / fastest.milliseconds).toFixed(1)} times as long as '${variantOf(fastest)}'`,
      'Run: rm-engine tune',
    );
  }
  const peaks = peaksOf(run, variantOf(chosen));
  const shares = [
    ...(peaks.gflops ? [chosen.gflops / peaks.gflops] : []),
    ...(peaks.gigabytes ? [chosen.gigabytes / peaks.gigabytes] : []),
  ];
  return [
    `${item.kernel} ${item.name}`,
    variantOf(chosen),
    digits(chosen.milliseconds),
    (chosen.gflops / 1000).toPrecision(3),
    digits(chosen.gigabytes),
    shares.length > 0 ? percent(Math.max(...shares)) : '',
    fastest === chosen ? '' : `${variantOf(fastest)}, ${digits(fastest.milliseconds)} ms`,
  ];
}

/** Shapes of 8B and 70B models with every variant, beside the measured peak. */
export async function kernelsStep(run: StepRun): Promise<void> {
  const rows: string[][] = [];
  const opened = await run.open();
  const shapes = opened.info.kind === 'software' ? softwareShapes() : largeShapes(opened.features);
  await opened.close();
  let at = 0;
  for (; at < shapes.length && run.left > 0; at++) {
    const item = shapes[at]!;
    await run.piece(
      `${item.kernel} ${item.name}`,
      async device => {
        const row = await timeShape(run, device, item);
        if (row) rows.push(row);
      },
      { profile: true },
    );
  }
  if (at < shapes.length) run.note(`no time for ${shapes.length - at} of ${shapes.length} shapes`);
  run.table('Kernels at sizes of large models', {
    columns: [
      ...[left('kernel'), left('chosen'), right('ms'), right('TFLOP/s'), right('GB/s')],
      ...[right('of peak'), left('faster')],
    ],
    rows,
  });
}
