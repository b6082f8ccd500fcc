import type { DeviceFacts } from '../../engine/index.js';
import { type Architecture, defaultBatchTokens } from '../../model/index.js';
import { FAITHFUL_TEXTS } from '../options/faithfulQuirks.js';
import type { PruneOptions } from '../options/pruneOptions.js';

/** How much text to read, and how much at a time: from the options, else by the device and the model. */
export function calibrationSizes(
  options: PruneOptions,
  device: DeviceFacts,
  arch: Architecture,
): CalibrationSizes {
  // An image is never cut.
  const asked = arch.vision ? arch.contextLength : (options.sequenceLength ?? 1024);
  const sequenceLength = Math.min(asked, arch.contextLength);
  const usual = device.info.kind === 'software' ? 8192 : 131_072;
  return {
    tokens: options.tokens ?? (options.faithful ? FAITHFUL_TEXTS * sequenceLength : usual),
    sequenceLength,
    batchTokens: options.batchTokens ?? defaultBatchTokens(device, arch),
  };
}

/** How many tokens models are measured on, where nothing else is asked for. */
export const defaultEvaluationTokens = ({ info }: DeviceFacts): number =>
  info.kind === 'software' ? 2048 : 16_384;

/** How much text a run calibrates with. */
export interface CalibrationSizes {
  /** Of the files, at most. */
  readonly tokens: number;
  readonly sequenceLength: number;
  readonly batchTokens: number;
}
