import { deviceBytes, expectedTensors, openCheckpoint, readArchitecture } from '../../model/index.js';
import type { HealOptions } from '../options/healSettings.js';
import { matmulRate } from '../run/computeRate.js';
import { openDevice } from '../run/openDevice.js';
import {
  type HealingFlops,
  type HealingMemory,
  type HealingWork,
  healingFlops,
  healingMemory,
  trainedNumbers,
} from './healingCost.js';
import { healingSettings } from './healingSettings.js';
import { checkHealRequest, healingSizes } from './healRequest.js';

/** The estimated cost of healing, made without reading weights or texts. */
export interface HealingPlan {
  /** "300 steps of 1024 tokens: transform of layer 2, objective kl" */
  readonly summary: string;
  /** Number of trained parameters. */
  readonly parameters: number;
  /** Tokens of all steps. */
  readonly tokens: number;
  /** Device memory in bytes. */
  readonly memory: HealingMemory;
  readonly flops: HealingFlops;
  /** Seconds of kernel time, at a matrix-product rate just measured on this device. */
  readonly seconds: HealingFlops;
  readonly matmulGflops: number;
  readonly adapter: string;
}

/**
 * Checks the request as `heal` does and estimates memory and time.
 *
 * @throws RmError as `heal` does for a wrong request or a damaged model folder.
 */
export async function planHealing(
  from: string,
  to: string | undefined,
  options: HealOptions,
): Promise<HealingPlan> {
  const request = await checkHealRequest(from, to, options);
  const { arch, layers, cut } = request;
  await using lease = await openDevice(options);
  const { device } = lease;
  const settings = healingSettings(request.training, device, arch);
  const { heldOutTokens, sequenceLength } = healingSizes(options, settings, device, arch);
  const { teacher } = options;
  const teacherLayers = teacher === undefined ? 0 : (await readArchitecture(teacher)).layers;
  const parted = cut?.keptLayers.findIndex((original, layer) => original !== layer) ?? -1;
  const sharedLayers = Math.min(layers[0] ?? 0, parted < 0 ? arch.layers : parted);
  const work: HealingWork = { arch, settings, layers, teacherLayers, sharedLayers, heldOutTokens };
  // Layers that the model shares with the teacher count once.
  const weights =
    (await weightBytes(teacher ?? from)) +
    (teacher === undefined ? 0 : await weightBytes(from, sharedLayers));
  const memory = { weights, ...healingMemory(work) };
  const flops = healingFlops(work, sequenceLength);
  const rate = await matmulRate(device, arch, Math.min(256, settings.microBatchTokens));
  const { steps, batchTokens, train, objective } = settings;
  return {
    summary:
      `${steps} steps of ${batchTokens} tokens: ${train}` +
      `${layers.length > 0 ? ` of layer ${layers.join(', ')}` : ''}, objective ${objective}`,
    parameters: trainedNumbers(work),
    tokens: steps * batchTokens,
    memory: { ...memory, total: Object.values(memory).reduce((sum, bytes) => sum + bytes, 0) },
    flops,
    seconds: { training: flops.training / rate, heldOut: flops.heldOut / rate },
    matmulGflops: rate / 1e9,
    adapter: device.info.description,
  };
}

/** Bytes of a model's stored tensors; with `from` only of the layers from there on. */
async function weightBytes(model: string, from?: number): Promise<number> {
  const arch = await readArchitecture(model);
  const checkpoint = await openCheckpoint(model);
  try {
    return expectedTensors(arch)
      .filter(({ layer }) => from === undefined || (layer !== null && layer >= from))
      .reduce((sum, { name }) => sum + deviceBytes(checkpoint.info(name)), 0);
  } finally {
    await checkpoint.close();
  }
}
