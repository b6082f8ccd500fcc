import './disposeSymbols.js';
import { totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { type AdapterInfo, type OpenedAdapter, openAdapter } from './adapter.js';
import { RmError } from './errors.js';
import { MemoryPool } from './memory.js';
import { withNaps } from './polling.js';
import { Profiler } from './profiler.js';
import { ProgramCache } from './program.js';
import { Recorder } from './recorder.js';
import { loadWebgpu } from './webgpu.js';

export interface DeviceOptions {
  /** Part of the adapter's name; default: RM_ENGINE_ADAPTER, else the best adapter found. */
  adapter?: string;
  /** Most bytes of GPU buffers; default: three quarters of the host's memory on a software adapter, else unlimited. */
  memoryLimit?: number;
  /** Most bytes of one storage binding where that is less than the adapter's: for drivers that promise too much. */
  bindingLimit?: number;
  /** Times every dispatch (needs timestamp-query). */
  profile?: boolean;
}

/** Features as booleans; kernels choose their variants by these. */
export interface DeviceFeatures {
  f16: boolean;
  subgroups: boolean;
  /** Which sizes: AdapterInfo.subgroupMatrixConfigs. */
  subgroupMatrix: boolean;
  timestamps: boolean;
}

const wantedFeatures = {
  f16: 'shader-f16',
  subgroups: 'subgroups',
  subgroupMatrix: 'chromium-experimental-subgroup-matrix',
  timestamps: 'timestamp-query',
} as const;

/**
 * Limits asked for at the adapter's own value. All others stay at WebGPU's defaults, so that a kernel that needs more,
 * or a view that begins where only some drivers allow it, fails on every machine and not only on small ones.
 */
const wantedLimits = ['maxBufferSize', 'maxStorageBufferBindingSize'] as const;

/** Limits that kernels and messages look at. */
const limitNames = [
  ...wantedLimits,
  'minStorageBufferOffsetAlignment',
  'maxComputeWorkgroupsPerDimension',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
] as const;
/** One of the limits that kernels and messages look at. */
export type LimitName = (typeof limitNames)[number];

/** Vendors of integrated and mobile GPUs, some of which are ten times slower than any other GPU in use. */
const slowVendors = /^(intel|arm|qualcomm|img-tec|samsung|broadcom)$/i;

function assumedRates({ kind, vendor }: AdapterInfo): { flops: number; bytes: number } {
  if (kind === 'software') return { flops: 4e9, bytes: 2e9 };
  return slowVendors.test(vendor) ? { flops: 1e11, bytes: 1e10 } : { flops: 1e12, bytes: 5e10 };
}

const noSection: Disposable = { [Symbol.dispose]: () => {} };

/** How long the reason of a loss may take to arrive after the first promise that it rejects. */
const LOSS_ARRIVES_MS = 200;

/** Everything that must stay referenced while Dawn's objects are in use (crbug 387965810). */
const roots = new Set<OpenedAdapter | GPUDevice>();

/**
 * An open GPU: memory, compiled programs and one recorder. A failure (lost device, uncaptured error, no memory) is
 * kept and thrown by the next `check`, `finish` or download; after it nothing computed here may be written anywhere.
 */
export class Device {
  readonly memory: MemoryPool;
  readonly programs: ProgramCache;
  readonly recorder: Recorder;
  readonly profiler: Profiler | undefined;
  readonly features: DeviceFeatures;
  /** The device's limits as plain numbers: every look at Dawn's own object crosses into native code. */
  readonly limits: Readonly<Record<LimitName, number>>;
  /** Rough floors of what this kind of device does a second; only to cut submits into pieces. */
  readonly assumedRates: { readonly flops: number; readonly bytes: number };
  readonly #opened: OpenedAdapter;
  #failure: RmError | undefined;
  #closed: Promise<void> | undefined;
  #outcomes: Promise<void>[] = [];

  private constructor(
    readonly gpu: GPUDevice,
    opened: OpenedAdapter,
    options: DeviceOptions,
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
      f16: has(wantedFeatures.f16),
      subgroups: has(wantedFeatures.subgroups),
      subgroupMatrix: has(wantedFeatures.subgroupMatrix),
      timestamps: has(wantedFeatures.timestamps),
    };
    gpu.addEventListener('uncapturederror', event => {
      // Without preventDefault dawn.node prints the error to stdout.
      event.preventDefault();
      this.fail(
        new RmError(
          'GPU_ERROR',
          `GPU error: ${event.error.message}`,
          'Please report this with: rm-engine doctor --json',
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
          'Run again; if it repeats, use fewer tokens per batch and look at the system log for driver resets.',
        ),
      );
    });
    const software = opened.info.kind === 'software';
    const limit = options.memoryLimit ?? (software ? 0.75 * totalmem() : Number.POSITIVE_INFINITY);
    this.memory = new MemoryPool(gpu, limit, {
      beforeDestroy: () => this.recorder.flush(),
      destroyed: () => this.recorder.forget(),
      failed: error => this.fail(error),
    });
    this.programs = new ProgramCache(gpu, outcome => {
      this.#outcomes.push(outcome.then(error => error && this.fail(error)));
    });
    this.recorder = new Recorder(this);
    const finish = () => this.recorder.finish();
    this.profiler = options.profile && this.features.timestamps ? new Profiler({ gpu, finish }) : undefined;
  }

  /**
   * Opens the chosen adapter's device; buffers and bindings may be as large as the adapter allows.
   *
   * @throws RmError ADAPTER_NONE or ADAPTER_UNSUITABLE.
   */
  static async open(options: DeviceOptions = {}): Promise<Device> {
    // GPUBufferUsage and the other constants, which browsers have as globals.
    Object.assign(globalThis, (await loadWebgpu()).globals);
    const opened = await openAdapter(options.adapter ?? process.env.RM_ENGINE_ADAPTER);
    const { adapter } = opened;
    roots.add(opened);
    const requiredFeatures = Object.values(wantedFeatures).filter(feature => adapter.features.has(feature));
    const requiredLimits: Record<string, number> = {};
    for (const name of wantedLimits) requiredLimits[name] = adapter.limits[name];
    let gpu: GPUDevice;
    try {
      gpu = await adapter.requestDevice({
        requiredFeatures: requiredFeatures as GPUFeatureName[],
        requiredLimits,
      });
    } catch (cause) {
      roots.delete(opened);
      throw new RmError(
        'ADAPTER_UNSUITABLE',
        `${opened.info.description} opens no device: ${(cause as Error).message}`,
        'Choose another adapter with --adapter, or update the driver.',
        { cause },
      );
    }
    roots.add(gpu);
    return new Device(gpu, opened, options);
  }

  /** The adapter that the device was opened on. */
  get info(): AdapterInfo {
    return this.#opened.info;
  }

  /** Remembers the first failure; a later one that explains an uncaptured GPU error takes its place. */
  fail(error: RmError): void {
    if (!this.#failure || this.#failure.code === 'GPU_ERROR') this.#failure = error;
  }

  /** @throws RmError: the failure, if there has been one. */
  check(): void {
    if (this.#failure) throw this.#failure;
  }

  /** Waits for pending compile outcomes, then throws what failed. */
  async settle(): Promise<void> {
    await Promise.all(this.#outcomes.splice(0));
    this.check();
  }

  /** Waits for one of Dawn's promises. */
  wait<T>(promise: Promise<T>): Promise<T> {
    return this.info.kind === 'software' ? withNaps(promise) : promise;
  }

  /** Waits until everything submitted is done. @throws RmError for any failure so far. */
  async drain(): Promise<void> {
    try {
      await this.wait(this.gpu.queue.onSubmittedWorkDone());
    } catch (cause) {
      await this.explain(cause, 'waiting for the GPU failed');
    }
    await this.settle();
  }

  /**
   * Throws the reason why Dawn rejected a promise: the rejection may arrive before the loss that caused it.
   *
   * @throws RmError always.
   */
  async explain(cause: unknown, what: string): Promise<never> {
    await Promise.race([this.gpu.lost, delay(LOSS_ARRIVES_MS)]);
    await this.settle();
    throw new RmError(
      'GPU_ERROR',
      `${what}: ${(cause as Error).message}`,
      'Run again; if it repeats, report it with the output of: rm-engine doctor --json',
      { cause },
    );
  }

  /**
   * Names what is recorded until the end of the block, `using _ = device.section('solve')`, for the profiler; sections
   * nest. Free without one.
   */
  section(name: string): Disposable {
    return this.profiler?.section(name) ?? noSection;
  }

  /** Waits for the device, frees everything on it and lets the process end. Harmless when repeated. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    this.recorder.flush();
    // A lost device never answers; otherwise pending work must drain before destroy.
    await Promise.race([this.gpu.queue.onSubmittedWorkDone().catch(() => {}), this.gpu.lost]);
    this.fail(new RmError('DEVICE_LOST', 'the device has been closed', 'Open another with Device.open.'));
    this.profiler?.close();
    this.recorder.close();
    this.memory.trim();
    this.gpu.destroy();
    await this.gpu.lost;
    roots.delete(this.gpu);
    roots.delete(this.#opened);
  }

  /** `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
