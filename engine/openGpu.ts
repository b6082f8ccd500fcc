// What `Device.open` needs once, loaded by it: a program that brings its own GPUDevice needs none of it.
import { type OpenedAdapter, openAdapter } from './adapter.js';
import type { AdapterInfo } from './adapterInfo.js';
import { type CardMemory, cardMemory, limitOf } from './cardMemory.js';
import type { HostRoom } from './deviceFacts.js';
import { type DeviceOptions, guarded, requestedFeatures } from './deviceOptions.js';
import { ensure, RmError } from './errors.js';
import { hostMemory, thisMachine } from './hostMemory.js';
import { memoryProbes } from './memoryProbes.js';
import { didYouMean } from './nearestWord.js';
import { reasonOf } from './reasons.js';
import { requestDevice } from './requestDevice.js';
import { roots } from './roots.js';

/** Features that Dawn may list and its driver still refuse. */
const experiments: readonly string[] = [
  requestedFeatures.subgroupMatrix,
  requestedFeatures.subgroupSizeControl,
];

/**
 * Limits requested at the adapter's own value. All others stay at WebGPU's defaults: a kernel that needs more, or a view
 * that begins where only some drivers allow it, then fails on every machine and not only on small ones.
 */
const requestedLimits = ['maxBufferSize', 'maxStorageBufferBindingSize'] as const;

/** What every GPU with matrix units offers at least, and attention on them needs: twice WebGPU's default. */
const MATRIX_WORKGROUP_MEMORY = 2 ** 15;

/** Opens the adapter, with the checks of indices that these options want. */
async function openFor(options: DeviceOptions): Promise<OpenedAdapter> {
  const { adapter = process.env.RM_ENGINE_ADAPTER, robustness = true } = options;
  if (guarded(options)) return openAdapter(adapter, 'clamp');
  // For tests: software adapters too.
  if (process.env.RM_ENGINE_ROBUSTNESS === '0') return openAdapter(adapter, 'none');
  if (robustness) return openAdapter(adapter);
  const opened = await openAdapter(adapter, 'none');
  // These gain nothing without checks, and one compiles five times as long (docs/lab-notes.md).
  return opened.info.kind === 'software' ? openAdapter(adapter) : opened;
}

/** The limits to request: the largest buffers, and what the options ask for. */
function limitsOf({ adapter, info }: OpenedAdapter, wanted: Readonly<Record<string, number>>) {
  const names: string[] = [];
  for (const name in adapter.limits) names.push(name);
  const unknown = Object.keys(wanted).find(name => !names.includes(name));
  ensure(
    unknown === undefined,
    `${info.description} has no limit '${unknown}'`,
    `${didYouMean(`${unknown}`, names)}WebGPU's specification lists them.`,
  );
  const required: Record<string, number> = {};
  for (const name of requestedLimits) required[name] = adapter.limits[name];
  const workgroupMemory = adapter.limits.maxComputeWorkgroupStorageSize;
  if (
    adapter.features.has(requestedFeatures.subgroupMatrix as GPUFeatureName) &&
    workgroupMemory >= MATRIX_WORKGROUP_MEMORY
  )
    required.maxComputeWorkgroupStorageSize = MATRIX_WORKGROUP_MEMORY;
  return Object.assign(required, wanted);
}

/** The features to request: those of kernels that the adapter has, and what the options ask for. */
function featuresOf({ adapter, info }: OpenedAdapter, wanted: readonly string[]): string[] {
  const missing = wanted.find(feature => !adapter.features.has(feature as GPUFeatureName));
  if (missing !== undefined) {
    const names = [...adapter.features].sort();
    throw new RmError(
      'ADAPTER_UNSUITABLE',
      `${info.description} has no feature '${missing}'`,
      `${didYouMean(missing, names)}It has ${names.join(', ')}.`,
    );
  }
  const known = Object.values(requestedFeatures).filter(feature => adapter.features.has(feature));
  return [...new Set<string>([...known, ...wanted])];
}

/** Opens an adapter and a device of it. @throws RmError ADAPTER_NONE, ADAPTER_UNSUITABLE, INVALID_ARGUMENT. */
export async function openGpu(
  options: DeviceOptions,
): Promise<{ gpu: GPUDevice; info: AdapterInfo; opened: OpenedAdapter }> {
  const opened = await openFor(options);
  const { adapter, info } = opened;
  roots.add(opened);
  try {
    const features = featuresOf(opened, options.features ?? []);
    const limits = limitsOf(opened, options.limits ?? {});
    const gpu = await requestDevice(adapter, features, experiments, limits);
    return { gpu, info, opened };
  } catch (cause) {
    roots.delete(opened);
    if (cause instanceof RmError) throw cause;
    throw new RmError(
      'ADAPTER_UNSUITABLE',
      `${info.description} opens no device: ${reasonOf(cause)}`,
      'Ask for less in `limits`, choose another `adapter`, or update the driver.',
      { cause },
    );
  }
}

/** What the card's driver says of its memory now; undefined where nothing says it. */
export const readCardMemory = (gpu: GPUDevice, info: AdapterInfo): Promise<CardMemory | undefined> =>
  cardMemory(info, thisMachine, memoryProbes(gpu, thisMachine.freeMemory));

/** The limit in bytes on all buffers, and what it follows from. */
export async function memoryFor(
  gpu: GPUDevice,
  info: AdapterInfo,
  memoryLimit: number | undefined,
): Promise<{ limit: number; host: HostRoom; card?: CardMemory | undefined }> {
  const { total, free } = await hostMemory();
  if (info.kind === 'software') return { limit: memoryLimit ?? 0.75 * total, host: { free, shared: true } };
  const card = memoryLimit === undefined ? await readCardMemory(gpu, info) : undefined;
  const limit = memoryLimit ?? (card ? limitOf(card) : Number.POSITIVE_INFINITY);
  return { limit, host: { free, shared: card?.unified ?? false }, card };
}
