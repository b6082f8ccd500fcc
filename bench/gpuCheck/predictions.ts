import type { Device } from '../../engine/index.js';
import type { SampledCase } from '../../kernels/index.js';
import {
  attentionSeconds,
  cardOf,
  type DeviceSpeed,
  EXACT,
  exactSumsSeconds,
  productSeconds,
  rowsSeconds,
} from '../../replaceme/index.js';
import type { StepRun } from './stepRun.js';

/** The device's speed: of a known card by its data sheet, else by what the step `peak` measured; undefined where it did not run. */
export function predictedSpeed(
  run: Pick<StepRun, 'earlier'>,
  { info, features }: Pick<Device, 'info' | 'features'>,
): DeviceSpeed | undefined {
  const card = cardOf(info.device);
  if (card) return { ...card, info, features };
  const rates = run.earlier('peak').rates as Omit<DeviceSpeed, 'info' | 'features'> | undefined;
  return rates && { ...rates, info, features };
}

/** Milliseconds that a kernel should take; undefined for those that are not predicted. */
export function predictedMilliseconds(
  speed: DeviceSpeed | undefined,
  { kernel, flops, bytes, product }: Pick<SampledCase, 'kernel' | 'flops' | 'bytes' | 'product'>,
): number | undefined {
  if (!speed) return undefined;
  const work = { flops, bytes };
  const seconds = () => {
    switch (kernel) {
      case 'matmul':
      case 'gatedMatmul':
        return product && productSeconds(speed, product, product.types);
      case 'attention':
        return attentionSeconds(speed, work);
      case 'gram':
      case 'crossGram':
        // Of two operations that count in f32.
        return exactSumsSeconds(speed, { flops: (EXACT / 2) * flops, bytes });
      case 'rmsNorm':
        return rowsSeconds(speed, bytes);
      default:
        return undefined;
    }
  };
  const predicted = seconds();
  return predicted && 1000 * predicted;
}
