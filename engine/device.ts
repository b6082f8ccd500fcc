import { reasonOf } from './reasons.js';
import './disposeSymbols.js';
import { setTimeout as delay } from 'node:timers/promises';
import { type AdapterInfo, type OpenedAdapter, openAdapter } from './adapter.js';
import { atLeastZero, checkArguments, settings } from './arguments.js';
import { type CardMemory, cardMemory, limitOf } from './cardMemory.js';
import type { HostRoom } from './deviceFacts.js';
import { RmError } from './errors.js';
import { flag, optional, text } from './form.js';
import { freeDestroyed } from './freeDestroyed.js';
import { Guards } from './guards.js';
import { hostMemory, thisMachine } from './hostMemory.js';
import { MemoryPool } from './memory.js';
import { memoryProbes } from './memoryProbes.js';
import { withNaps } from './polling.js';
import { Profiler } from './profiler.js';
import type { ProgramSpec } from './program.js';
import { ProgramCache } from './programCache.js';
import { Recorder } from './recorder.js';
import { requestDevice } from './requestDevice.js';
import { StagingBuffers } from './staging.js';
import { loadWebgpu } from './webgpu.js';

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
   * Whether a program's indices are checked, so that none reaches memory that is not its own; default: true. The kernels of
   * this package keep their indices in range and are faster on a GPU without the checks. Programs of your own that do not
   * may then read or overwrite other memory. A software adapter always checks.
   */
  robustness?: boolean;
  /** For tests: tensors begin as NaN and have a guard behind them; `close` throws if a program wrote there. */
  guards?: boolean;
}

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

const deviceSettings = settings<DeviceOptions>({
  adapter: optional(text),
  memoryLimit: optional(atLeastZero),
  capacity: optional(atLeastZero),
  bindingLimit: optional(atLeastZero),
  profile: optional(flag),
  robustness: optional(flag),
  guards: optional(flag),
});

const requestedFeatures = {
  f16: 'shader-f16',
  subgroups: 'subgroups',
  subgroupMatrix: 'chromium-experimental-subgroup-matrix',
  subgroupSizeControl: 'subgroup-size-control',
  timestamps: 'timestamp-query',
} as const;

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

/** Limits that kernels and messages read. */
const limitNames = [
  ...requestedLimits,
  'minStorageBufferOffsetAlignment',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;
/** Name of a WebGPU limit in `Device.limits`. */
export type LimitName = (typeof limitNames)[number];

/** Vendors of integrated and mobile GPUs, some of which are ten times slower than other GPUs. */
const slowVendors = /^(intel|arm|qualcomm|img-tec|samsung|broadcom)$/i;

function assumedRates({ kind, vendor }: AdapterInfo): { flops: number; bytes: number } {
  if (kind === 'software') return { flops: 4e9, bytes: 2e9 };
  return slowVendors.test(vendor) ? { flops: 1e11, bytes: 1e10 } : { flops: 1e12, bytes: 5e10 };
}

const guarded = ({ guards = process.env.RM_ENGINE_GUARDS === '1' }: DeviceOptions): boolean => guards;

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

const memoryOf = (gpu: GPUDevice, info: AdapterInfo) =>
  cardMemory(info, thisMachine, memoryProbes(gpu, thisMachine.freeMemory));

const noSection: Disposable = { [Symbol.dispose]: () => {} };

/** A lost device rejects promises first and gives its reason up to this much later. */
const LOSS_ARRIVES_MS = 200;

/** Keeps these objects referenced while Dawn's objects are in use (crbug 387965810). */
const roots = new Set<OpenedAdapter | GPUDevice>();

/**
 * An open GPU: memory, compiled programs and one recorder. The device remembers a failure (lost device, uncaptured
 * error, out of memory) and the next `check`, `finish` or download throws it. After a failure no result of the device
 * may be written anywhere.
 */
export class Device {
  readonly memory: MemoryPool;
  readonly programs: ProgramCache;
  readonly recorder: Recorder;
  /** @internal */
  readonly staging: StagingBuffers;
  readonly profiler: Profiler | undefined;
  readonly features: DeviceFeatures;
  /** The device's limits, copied: reading Dawn's own object crosses into native code. */
  readonly limits: Readonly<Record<LimitName, number>>;
  /** Rough lower bounds of the device's work per second; used only to split long submits. */
  readonly assumedRates: { readonly flops: number; readonly bytes: number };
  readonly #opened: OpenedAdapter;
  readonly #guards: Guards | undefined;
  #failure: RmError | undefined;
  #closed: Promise<void> | undefined;
  readonly #outcomes = new Set<Promise<void>>();
  /** Errors of the call that is being tried, while one is: dawn.node reports them before a call returns. */
  #expected: GPUError[] | undefined;

  private constructor(
    readonly gpu: GPUDevice,
    opened: OpenedAdapter,
    options: DeviceOptions,
    limit: number,
    readonly host: HostRoom,
    /** The card's memory when the device was opened, where the limit follows from it. */
    readonly card: CardMemory | undefined,
  ) {
    this.#opened = opened;
    const limits = Object.fromEntries(limitNames.map(name => [name, gpu.limits[name]])) as Record<
      LimitName,
      number
    >;
    const bindable = Math.min(
      limits.maxStorageBufferBindingSize,
      options.bindingLimit ?? Number.POSITIVE_INFINITY,
    );
    this.limits = { ...limits, maxStorageBufferBindingSize: bindable };
    this.assumedRates = assumedRates(opened.info);
    const has = (feature: string) => gpu.features.has(feature as GPUFeatureName);
    this.features = {
      f16: has(requestedFeatures.f16),
      subgroups: has(requestedFeatures.subgroups),
      subgroupMatrix: has(requestedFeatures.subgroupMatrix),
      subgroupSizeControl: has(requestedFeatures.subgroupSizeControl),
      timestamps: has(requestedFeatures.timestamps),
    };
    gpu.addEventListener('uncapturederror', event => {
      // Without preventDefault dawn.node prints the error to stdout.
      event.preventDefault();
      if (this.#expected) {
        this.#expected.push(event.error);
        return;
      }
      this.fail(
        new RmError(
          'GPU_ERROR',
          `the GPU reports an error: ${reasonOf(event.error)}`,
          'Please report this with the output of: rm-engine doctor',
          {
            cause: event.error,
          },
        ),
      );
    });
    gpu.lost.then(({ reason, message }) => {
      if (this.#closed) return;
      this.fail(
        new RmError(
          'DEVICE_LOST',
          `the GPU device was lost (${reason}): ${message}`,
          'Run again. If it repeats, use fewer tokens per batch and look for driver resets in the system log.',
        ),
      );
    });
    this.#guards = (options.guards ?? process.env.RM_ENGINE_GUARDS === '1') ? new Guards(gpu) : undefined;
    this.memory = new MemoryPool(
      gpu,
      limit,
      {
        beforeDestroy: () => this.recorder.flush(),
        destroyed: () => this.recorder.forget(),
        failed: error => this.fail(error),
      },
      options.capacity,
      this.#guards,
    );
    this.programs = new ProgramCache(gpu, work => this.#errorsOf(work), opened.info.vendor === 'intel');
    this.recorder = new Recorder(this);
    this.staging = new StagingBuffers(this);
    const finish = () => this.recorder.finish();
    this.profiler = options.profile && this.features.timestamps ? new Profiler({ gpu, finish }) : undefined;
  }

  /**
   * Opens a device on the chosen adapter, with the largest buffers and bindings that the adapter allows.
   *
   * @throws RmError ADAPTER_NONE, ADAPTER_UNSUITABLE, or INVALID_ARGUMENT for options that are misspelt.
   */
  static async open(options: DeviceOptions = {}): Promise<Device> {
    checkArguments('Device.open', { options }, { options: deviceSettings });
    // GPUBufferUsage and the other constants that are globals in browsers.
    Object.assign(globalThis, (await loadWebgpu()).globals);
    const opened = await openFor(options);
    const { adapter } = opened;
    roots.add(opened);
    const requiredFeatures = Object.values(requestedFeatures).filter(feature =>
      adapter.features.has(feature),
    );
    const requiredLimits: Record<string, number> = {};
    for (const name of requestedLimits) requiredLimits[name] = adapter.limits[name];
    let gpu: GPUDevice;
    try {
      gpu = await requestDevice(adapter, requiredFeatures, experiments, requiredLimits);
    } catch (cause) {
      roots.delete(opened);
      throw new RmError(
        'ADAPTER_UNSUITABLE',
        `${opened.info.description} opens no device: ${reasonOf(cause)}`,
        'Choose another `adapter`, or update the driver.',
        { cause },
      );
    }
    roots.add(gpu);
    const { total, free } = await hostMemory();
    if (opened.info.kind === 'software') {
      const most = options.memoryLimit ?? 0.75 * total;
      return new Device(gpu, opened, options, most, { free, shared: true }, undefined);
    }
    const card = options.memoryLimit === undefined ? await memoryOf(gpu, opened.info) : undefined;
    const limit = options.memoryLimit ?? (card ? limitOf(card) : Number.POSITIVE_INFINITY);
    return new Device(gpu, opened, options, limit, { free, shared: card?.unified ?? false }, card);
  }

  /** What the card's driver says of its memory now; undefined on a software adapter, and where nothing says it. */
  async readCard(): Promise<CardMemory | undefined> {
    return this.info.kind === 'software' ? undefined : await memoryOf(this.gpu, this.info);
  }

  /** Describes the device's adapter. */
  get info(): AdapterInfo {
    return this.#opened.info;
  }

  /** Remembers the first failure; a later failure replaces an uncaptured GPU error, since it explains more. */
  fail(error: RmError): void {
    if (!this.#failure || this.#failure.code === 'GPU_ERROR') this.#failure = error;
  }

  /** Throws the remembered failure, if any. @throws RmError of any code. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** @internal No result leaves the device before this outcome is known; an error is a failure of the device. */
  expect(outcome: Promise<RmError | undefined>): void {
    const known = outcome.then(error => {
      if (error) this.fail(error);
      this.#outcomes.delete(known);
    });
    this.#outcomes.add(known);
  }

  #errorsOf(work: () => void): readonly GPUError[] {
    const errors: GPUError[] = [];
    this.#expected = errors;
    try {
      work();
    } finally {
      this.#expected = undefined;
    }
    return errors;
  }

  /**
   * Compiles programs ahead of their first dispatch.
   *
   * @throws RmError SHADER_COMPILE, with the place in the WGSL, or INVALID_ARGUMENT; the device stays usable.
   */
  async compile(...programs: readonly ProgramSpec[]): Promise<void> {
    this.check();
    for (const program of programs) this.programs.get(program);
  }

  /** Waits for pending checks, then throws the remembered failure, if any. */
  async settle(): Promise<void> {
    await Promise.all(this.#outcomes);
    this.check();
  }

  /** Waits for one of Dawn's promises. */
  wait<T>(promise: Promise<T>): Promise<T> {
    return this.info.kind === 'software' ? withNaps(promise) : promise;
  }

  /** Waits until the GPU has done all submitted work, and destroyed buffers are free. @throws RmError for any failure so far. */
  async drain(): Promise<void> {
    this.profiler?.count('waits');
    const leaving = this.memory.leavingBytes;
    try {
      if (leaving > 0) await freeDestroyed(this.gpu, done => this.wait(done));
      else await this.wait(this.gpu.queue.onSubmittedWorkDone());
    } catch (cause) {
      await this.explain(cause, 'waiting for the GPU failed');
    }
    this.memory.letGo(leaving);
    await this.settle();
  }

  /**
   * Gives the memory of all free buffers back to the driver and waits until it has it: for work that needs the room of what
   * was there before.
   */
  async reclaim(): Promise<void> {
    this.memory.trim();
    if (this.memory.leavingBytes > 0) await this.drain();
  }

  /**
   * Makes the device usable again after it ran out of memory, for work that needs less. All tensors must be disposed.
   *
   * @param limit the new memory limit, if it is lower than the present one and than what the driver has refused.
   * @returns false where the device has failed for another reason.
   */
  async recover(limit: number): Promise<boolean> {
    if (this.#failure && this.#failure.code !== 'OUT_OF_MEMORY') return false;
    this.memory.trim();
    const leaving = this.memory.leavingBytes;
    this.recorder.flush();
    try {
      await freeDestroyed(this.gpu, done => this.wait(done));
    } catch {
      return false;
    }
    await Promise.all(this.#outcomes);
    this.memory.letGo(leaving);
    if (this.#failure && this.#failure.code !== 'OUT_OF_MEMORY') return false;
    this.#failure = undefined;
    this.memory.lowerLimit(limit);
    return true;
  }

  /**
   * Throws the reason why Dawn rejected a promise, after waiting a moment: the loss may be reported after the rejection
   * that it causes.
   *
   * @throws RmError always.
   */
  async explain(cause: unknown, what: string): Promise<never> {
    await Promise.race([this.gpu.lost, delay(LOSS_ARRIVES_MS)]);
    await this.settle();
    throw new RmError(
      'GPU_ERROR',
      `${what}: ${reasonOf(cause)}`,
      'Run again. If it repeats, report it with the output of: rm-engine doctor --json',
      { cause },
    );
  }

  /**
   * Names a section for the profiler: everything recorded until the result is disposed belongs to it, as in
   * `using _ = device.section('solve')`. Sections nest. Without a profiler this costs nothing.
   */
  section(name: string): Disposable {
    checkArguments('section', { name }, { name: text });
    return this.profiler?.section(name) ?? noSection;
  }

  /**
   * Waits for pending work, frees everything on the device and lets the process end. May be called again.
   *
   * @throws RmError GPU_ERROR where tensors are guarded and a program has written behind one.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.recorder.flush();
    // Pending work must drain before destroy, but a lost device never answers.
    await Promise.race([this.gpu.queue.onSubmittedWorkDone().catch(() => {}), this.gpu.lost]);
    this.fail(
      new RmError('DEVICE_LOST', 'the device has been closed', 'Open a new device with Device.open.'),
    );
    await this.staging.close();
    this.profiler?.close();
    this.recorder.close();
    this.memory.trim();
    try {
      await this.#guards?.check();
    } finally {
      this.gpu.destroy();
      await this.gpu.lost;
      roots.delete(this.gpu);
      roots.delete(this.#opened);
    }
  }

  /** `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
