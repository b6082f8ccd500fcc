import { type AdapterInfo, Device, ensure } from '../engine/index.js';
import {
  type Architecture,
  checkShapes,
  loadChatTemplate,
  loadTokenizer,
  Model,
  openCheckpoint,
  readArchitecture,
} from '../model/index.js';
import { calibrationBatches } from './calibration/batches.js';
import { type CalibrationFile, readCalibration } from './calibration/read.js';
import type { CalibrationSizes } from './calibration/sizes.js';
import { calibrationSizes } from './calibration/sizes.js';
import type { PruneOptions } from './options/pruneOptions.js';
import { weightSizes } from './planning/memoryParts.js';
import { offloadOf } from './planning/plan.js';
import { placeProfile } from './planning/profilePlan.js';
import { type WindowMap, windowMap } from './windowMap/windowMap.js';

export interface ProfileWindowsOptions
  extends Pick<
    PruneOptions,
    | 'calibration'
    | 'tokens'
    | 'sequenceLength'
    | 'batchTokens'
    | 'textField'
    | 'device'
    | 'adapter'
    | 'memoryLimit'
    | 'onNotice'
    | 'onProgress'
    | 'signal'
  > {
  /** Removed layers of the longest windows (default: all but one). */
  longest?: number;
}

export interface WindowProfile extends WindowMap {
  readonly calibration: readonly CalibrationFile[];
  readonly adapter: AdapterInfo;
  readonly seconds: number;
}

/** Where weights and hidden states are to be, and how much may be summed at a time. @throws RmError OUT_OF_MEMORY where the map fits in no way. */
async function placed(
  from: string,
  arch: Architecture,
  sizes: CalibrationSizes & { readonly longest: number },
  { memory }: Device,
): Promise<ReturnType<typeof placeProfile>> {
  const checkpoint = await openCheckpoint(from);
  try {
    checkShapes(arch, checkpoint);
    const weights = weightSizes(arch, checkpoint, sizes.sequenceLength);
    return placeProfile({ arch, ...weights, ...sizes, memoryLimit: memory.limit });
  } finally {
    await checkpoint.close();
  }
}

/** Calibration tokens unless told: windows are only ranked. */
const profileTokens = ({ info }: Device): number => (info.kind === 'software' ? 4096 : 32_768);

/**
 * The map of all windows of the model in folder `from`, on calibration texts.
 *
 * @throws RmError as Model.load and readCalibration do, and what windowMap throws; OUT_OF_MEMORY before anything is
 *   loaded where it fits in no way, with the options that would make it fit.
 */
export async function profileWindows(
  from: string,
  options: ProfileWindowsOptions = {},
): Promise<WindowProfile> {
  const started = performance.now();
  const arch = await readArchitecture(from);
  const { longest = arch.layers - 1 } = options;
  ensure(
    Number.isInteger(longest) && longest >= 1 && longest < arch.layers,
    `windows of ${longest} layers in a model of ${arch.layers}`,
    `Give a number of layers from 1 to ${arch.layers - 1}.`,
  );
  const tokenizer = await loadTokenizer(from);
  const device = options.device ?? (await Device.open(options));
  try {
    const sizes = calibrationSizes(
      { ...options, tokens: options.tokens ?? profileTokens(device) },
      device,
      arch,
    );
    const { placement, room } = await placed(from, arch, { ...sizes, longest }, device);
    if (placement.weights !== 'device') {
      const wait = placement.states.place === 'host' ? ', and hidden states wait in host memory' : '';
      options.onNotice?.(`the layers are streamed: the model does not fit${wait}`);
    }
    const calibration = await readCalibration(tokenizer, await loadChatTemplate(from, tokenizer), {
      files: options.calibration,
      textField: options.textField,
      tokens: sizes.tokens,
      sequenceLength: sizes.sequenceLength,
    });
    await using model = await Model.load(device, from, { ...options, stream: offloadOf(placement) });
    const map = await windowMap(model, calibrationBatches(calibration, sizes.batchTokens), {
      ...options,
      ...{ longest, room },
      placement: placement.states,
    });
    return {
      ...map,
      calibration: calibration.files,
      adapter: device.info,
      seconds: (performance.now() - started) / 1000,
    };
  } finally {
    if (!options.device) await device.close();
  }
}
