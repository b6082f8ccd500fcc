import { type AdapterInfo, type Device, ensure } from '../engine/index.js';
import {
  type Architecture,
  checkShapes,
  openCheckpoint,
  openTextReader,
  readArchitecture,
} from '../model/index.js';
import { firstSequences } from './calibration/calibrationBatch.js';
import { calibrationBatches } from './calibration/packBatches.js';
import { type CalibrationFile, readCalibration } from './calibration/readCalibration.js';
import { type CalibrationSizes, calibrationSizes } from './calibration/sizes.js';
import type { PruneOptions } from './options/pruneOptions.js';
import { loadPlanned } from './planning/loadPlanned.js';
import { weightSizes } from './planning/memoryParts.js';
import { placeProfile } from './planning/profilePlan.js';
import { openDevice } from './run/openDevice.js';
import { groupTokens } from './windowMap/groupTokens.js';
import { type SwappedLayers, swapNeighbours } from './windowMap/swappedLayers.js';
import { type WindowMap, windowMap } from './windowMap/windowMap.js';

export interface ProfileWindowsOptions
  extends Pick<
    PruneOptions,
    | 'calibration'
    | 'tokens'
    | 'sequenceLength'
    | 'batchTokens'
    | 'textField'
    | 'date'
    | 'skipInvalid'
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
  /**
   * What each swap of two neighbouring layers costs on the first calibration tokens (256 of them on a software adapter,
   * 4,096 on a GPU). Left out where layers are streamed: each swap would load the model again.
   */
  readonly swaps?: readonly SwappedLayers[];
  readonly calibration: readonly CalibrationFile[];
  readonly adapter: AdapterInfo;
  readonly seconds: number;
}

/** Where weights and hidden states are to be, and how much may be summed at a time. @throws RmError OUT_OF_MEMORY where the map fits in no way. */
async function placed(
  from: string,
  arch: Architecture,
  sizes: CalibrationSizes & { readonly longest: number },
  device: Device,
): Promise<ReturnType<typeof placeProfile>> {
  const checkpoint = await openCheckpoint(from);
  try {
    checkShapes(arch, checkpoint);
    const weights = weightSizes(arch, checkpoint, sizes.sequenceLength);
    return placeProfile({ arch, ...weights, ...sizes, mapGroup: groupTokens(device, arch), device });
  } finally {
    await checkpoint.close();
  }
}

/** Calibration tokens unless told: windows are only ranked. */
const profileTokens = ({ info }: Device): number => (info.kind === 'software' ? 4096 : 32_768);

/** Calibration tokens on which layers are swapped: each swap runs half of the layers and the output head over them. */
const swapTokens = ({ info }: Device): number => (info.kind === 'software' ? 256 : 4096);

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
  const { tokenizer, chat } = await openTextReader(from, options);
  await using lease = await openDevice(options);
  const { device } = lease;
  const sizes = calibrationSizes(
    { ...options, tokens: options.tokens ?? profileTokens(device) },
    device,
    arch,
  );
  const { placement, room } = await placed(from, arch, { ...sizes, longest }, device);
  if (placement.weights !== 'device') {
    const wait = placement.states.place === 'host' ? ', and hidden states wait in host memory' : '';
    options.onNotice?.(
      `the layers are streamed: the model does not fit${wait}; swaps of layers need the whole model and are left out`,
    );
  }
  const calibration = await readCalibration(tokenizer, chat, {
    files: options.calibration,
    textField: options.textField,
    skipInvalid: options.skipInvalid,
    tokens: sizes.tokens,
    sequenceLength: sizes.sequenceLength,
  });
  await using model = await loadPlanned(device, from, options, placement);
  const batches = calibrationBatches(calibration, sizes.batchTokens);
  const map = await windowMap(model, batches, {
    ...options,
    ...{ longest, room },
    placement: placement.states,
  });
  const swaps = model.isOffloaded
    ? undefined
    : await swapNeighbours(model, firstSequences(batches, swapTokens(device)), {
        ...options,
        ...{ batchTokens: sizes.batchTokens, stateBytes: room },
      });
  return {
    ...map,
    ...(swaps && { swaps }),
    calibration: calibration.files,
    adapter: device.info,
    seconds: (performance.now() - started) / 1000,
  };
}
