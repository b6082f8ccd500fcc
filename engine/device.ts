import './disposeSymbols.js';
import { setTimeout as delay } from 'node:timers/promises';
import { type AdapterInfo, adapterInfo } from './adapterInfo.js';
import { checkArguments, objectWith } from './arguments.js';
import type { CardMemory } from './cardMemory.js';
import type { HostRoom } from './deviceFacts.js';
import {
  type DeviceFeatures,
  type DeviceOptions,
  deviceSettings,
  type ForeignDeviceOptions,
  foreignDeviceSettings,
  guarded,
  type LimitName,
  limitNames,
  requestedFeatures,
} from './deviceOptions.js';
import { ensure, RmError } from './errors.js';
import { text } from './form.js';
import { freeDestroyed } from './freeDestroyed.js';
import type { Guards } from './guards.js';
import { MemoryPool } from './memory.js';
import { withNaps } from './polling.js';
import type { Profiler } from './profiler.js';
import type { ProgramSpec } from './program.js';
import { ProgramCache } from './programCache.js';
import { reasonOf } from './reasons.js';
import { Recorder } from './recorder.js';
import { roots } from './roots.js';
import { StagingBuffers } from './staging.js';
import { loadWebgpu } from './webgpu.js';

/** Vendors of integrated and mobile GPUs, some of which are ten times slower than other GPUs. */
const slowVendors = /^(intel|arm|qualcomm|img-tec|samsung|broadcom)$/i;

function assumedRates({ kind, vendor }: AdapterInfo): { flops: number; bytes: number } {
  if (kind === 'software') return { flops: 4e9, bytes: 2e9 };
  return slowVendors.test(vendor) ? { flops: 1e11, bytes: 1e10 } : { flops: 1e12, bytes: 5e10 };
}

const noSection: Disposable = { [Symbol.dispose]: () => {} };

/** Sets GPUBufferUsage and the other constants that are globals in browsers. */
async function provideConstants(): Promise<void> {
  if (!('GPUBufferUsage' in globalThis)) Object.assign(globalThis, (await loadWebgpu()).globals);
}

/** A lost device rejects promises first and gives its reason up to this much later. */
const LOSS_ARRIVES_MS = 200;

/** GPUDevices that have a `Device`. */
const taken = new WeakSet<GPUDevice>();

/** What a `Device` is made of. */
interface DeviceParts {
  readonly gpu: GPUDevice;
  readonly info: AdapterInfo;
  /** The adapter, if the device is ours to destroy. */
  readonly opened?: object;
  readonly limit: number;
  readonly host: HostRoom;
  readonly card?: CardMemory | undefined;
  readonly extras: Awaited<ReturnType<typeof loadExtras>>;
}

/** Classes that few devices need. */
async function loadExtras(options: DeviceOptions) {
  return {
    Profiler: options.profile ? (await import('./profiler.js')).Profiler : undefined,
    Guards: guarded(options) ? (await import('./guards.js')).Guards : undefined,
  };
}

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
  readonly gpu: GPUDevice;
  /** Describes the device's adapter. */
  readonly info: AdapterInfo;
  /** The host's memory when the device was opened. */
  readonly host: HostRoom;
  /** The card's memory when the device was opened, where the limit follows from it. */
  readonly card: CardMemory | undefined;
  readonly #opened: object | undefined;
  readonly #uncaptured: (event: GPUUncapturedErrorEvent) => void;
  readonly #guards: Guards | undefined;
  #failure: RmError | undefined;
  #closed: Promise<void> | undefined;
  readonly #outcomes = new Set<Promise<void>>();
  /** Errors of the call that is being tried, while one is: dawn.node reports them before a call returns. */
  #expected: GPUError[] | undefined;

  private constructor(parts: DeviceParts, options: DeviceOptions) {
    const { gpu, info, opened, limit, host, card, extras } = parts;
    this.gpu = gpu;
    this.info = info;
    this.host = host;
    this.card = card;
    this.#opened = opened;
    taken.add(gpu);
    const limits = Object.fromEntries(limitNames.map(name => [name, gpu.limits[name]])) as Record<
      LimitName,
      number
    >;
    const bindable = Math.min(
      limits.maxStorageBufferBindingSize,
      options.bindingLimit ?? Number.POSITIVE_INFINITY,
    );
    this.limits = { ...limits, maxStorageBufferBindingSize: bindable };
    this.assumedRates = assumedRates(info);
    const has = (feature: string) => gpu.features.has(feature as GPUFeatureName);
    this.features = {
      f16: has(requestedFeatures.f16),
      subgroups: has(requestedFeatures.subgroups),
      subgroupMatrix: has(requestedFeatures.subgroupMatrix),
      subgroupSizeControl: has(requestedFeatures.subgroupSizeControl),
      timestamps: has(requestedFeatures.timestamps),
    };
    this.#uncaptured = event => {
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
    };
    gpu.addEventListener('uncapturederror', this.#uncaptured);
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
    this.#guards = extras.Guards && new extras.Guards(gpu);
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
    this.programs = new ProgramCache(gpu, work => this.errorsOf(work), info.vendor === 'intel');
    this.recorder = new Recorder(this);
    this.staging = new StagingBuffers(this);
    const finish = () => this.recorder.finish();
    const { Profiler } = extras;
    this.profiler = Profiler && this.features.timestamps ? new Profiler({ gpu, finish }) : undefined;
  }

  /**
   * Opens a device on the chosen adapter, with the largest buffers and bindings that the adapter allows.
   *
   * @throws RmError ADAPTER_NONE; ADAPTER_UNSUITABLE, also where the adapter lacks a feature or limit of the options;
   *   INVALID_ARGUMENT for options that are misspelt.
   */
  static async open(options: DeviceOptions = {}): Promise<Device> {
    checkArguments('Device.open', { options }, { options: deviceSettings });
    await provideConstants();
    const extras = await loadExtras(options);
    const { openGpu, memoryFor } = await import('./openGpu.js');
    const parts = await openGpu(options);
    roots.add(parts.gpu);
    const memory = await memoryFor(parts.gpu, parts.info, options.memoryLimit);
    return new Device({ ...parts, ...memory, extras }, options);
  }

  /**
   * Works on a GPUDevice that was made elsewhere, beside other programs on it: `Tensor.fromBuffer` takes its buffers. An
   * error that other code causes on it counts as a failure here too. `close` frees what this device has made and leaves the
   * GPUDevice open.
   *
   * @param options `profile` needs a GPUDevice with the feature timestamp-query.
   * @throws RmError INVALID_ARGUMENT for anything else, and for a GPUDevice that has a `Device` already.
   */
  static async from(gpu: GPUDevice, options: ForeignDeviceOptions = {}): Promise<Device> {
    checkArguments(
      'Device.from',
      { gpu, options },
      { gpu: objectWith('a GPUDevice', 'queue', 'createBuffer', 'limits'), options: foreignDeviceSettings },
    );
    await provideConstants();
    const info = adapterInfo(gpu.adapterInfo);
    const extras = await loadExtras(options);
    const { memoryFor } = await import('./openGpu.js');
    const memory = await memoryFor(gpu, info, options.memoryLimit);
    ensure(!taken.has(gpu), 'this GPUDevice has a Device already', 'Use that one, or close it first.');
    return new Device({ gpu, info, ...memory, extras }, options);
  }

  /** What the card's driver says of its memory now; undefined on a software adapter, and where nothing says it. */
  async readCard(): Promise<CardMemory | undefined> {
    if (this.info.kind === 'software') return undefined;
    const { readCardMemory } = await import('./openGpu.js');
    return await readCardMemory(this.gpu, this.info);
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

  /** @internal Runs `work` and returns the errors that Dawn reports meanwhile, which are then no failure of the device. */
  errorsOf(work: () => void): readonly GPUError[] {
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
   * Waits for pending work, frees everything on the device and lets the process end. May be called again. A GPUDevice that was
   * made elsewhere stays open.
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
    this.gpu.removeEventListener('uncapturederror', this.#uncaptured as never);
    taken.delete(this.gpu);
    try {
      await this.#guards?.check();
    } finally {
      if (this.#opened) {
        this.gpu.destroy();
        await this.gpu.lost;
        roots.delete(this.gpu);
        roots.delete(this.#opened);
      }
    }
  }

  /** `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
