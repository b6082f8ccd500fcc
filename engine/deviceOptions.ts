import { atLeastZero, settings } from './arguments.js';
import { flag, listOf, optional, tableOf, text } from './form.js';

/** Settings of `Device.open`. */
export interface DeviceOptions {
  /** Part of the adapter's name; default: RM_ENGINE_ADAPTER, else the best adapter found. */
  adapter?: string;
  /**
   * Limit in bytes on all GPU buffers; default: 3/4 of the host's memory on a software adapter, else 0.9 of what is free on
   * the card, and none where nothing says how much that is.
   */
  memoryLimit?: number;
  /** For tests: bytes of all buffers beyond which they fail as where a driver has no room. */
  capacity?: number;
  /** Limit in bytes on one storage binding, below the adapter's own: for drivers that promise too much. */
  bindingLimit?: number;
  /** Times every dispatch (needs timestamp-query). */
  profile?: boolean;
  /**
   * WebGPU limits that programs of your own need, by their names, such as `{ maxComputeWorkgroupStorageSize: 32768 }`. Buffers
   * and bindings are as large as the adapter allows without being told; all other limits are WebGPU's defaults.
   */
  limits?: Readonly<Record<string, number>>;
  /** WebGPU features that programs of your own need besides those of `DeviceFeatures`, such as 'float32-filterable'. */
  features?: readonly string[];
  /**
   * Whether a program's indices are checked, so that none reaches memory that is not its own; default: true. The kernels of
   * this package keep their indices in range and are faster on a GPU without the checks. Programs of your own that do not
   * may then read or overwrite other memory. A software adapter always checks.
   */
  robustness?: boolean;
  /** For tests: tensors begin as NaN and have a guard behind them; `close` throws if a program wrote there. */
  guards?: boolean;
}

/** Settings of `Device.from`. */
export type ForeignDeviceOptions = Pick<DeviceOptions, 'memoryLimit' | 'profile'>;

/** The optional WebGPU features that a device has; kernels choose their variants by them. */
export interface DeviceFeatures {
  f16: boolean;
  subgroups: boolean;
  /** AdapterInfo.subgroupMatrixConfigs lists the sizes. */
  subgroupMatrix: boolean;
  /** A program may ask for one of the subgroup sizes from AdapterInfo.subgroupMinSize to subgroupMaxSize. */
  subgroupSizeControl: boolean;
  timestamps: boolean;
}

export const deviceSettings = settings<DeviceOptions>({
  adapter: optional(text),
  memoryLimit: optional(atLeastZero),
  capacity: optional(atLeastZero),
  bindingLimit: optional(atLeastZero),
  profile: optional(flag),
  limits: optional(tableOf(atLeastZero)),
  features: optional(listOf(text)),
  robustness: optional(flag),
  guards: optional(flag),
});

export const foreignDeviceSettings = settings<ForeignDeviceOptions>({
  memoryLimit: optional(atLeastZero),
  profile: optional(flag),
});

/** Whether tensors are guarded, for tests. */
export const guarded = ({ guards = process.env.RM_ENGINE_GUARDS === '1' }: DeviceOptions): boolean => guards;

/** The names that WebGPU has for `DeviceFeatures`. */
export const requestedFeatures = {
  f16: 'shader-f16',
  subgroups: 'subgroups',
  subgroupMatrix: 'chromium-experimental-subgroup-matrix',
  subgroupSizeControl: 'subgroup-size-control',
  timestamps: 'timestamp-query',
} as const;

/** Limits that kernels and messages read. */
export const limitNames = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'minStorageBufferOffsetAlignment',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;
/** Name of a WebGPU limit in `Device.limits`. */
export type LimitName = (typeof limitNames)[number];
