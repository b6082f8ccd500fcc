import { BindGroupCache } from './bindGroupCache.js';
import { collectGarbage } from './collectGarbage.js';
import {
  type BufferView,
  boundTensors,
  checkRanges,
  type Dispatch,
  dispatchNames,
  notOfDevice,
  type RangeLimits,
  requireWords,
  unknownName,
} from './dispatch.js';
import { ensure, RmError } from './errors.js';
import type { Profiler } from './profiler.js';
import type { Program, ProgramCache } from './programCache.js';
import { UniformWords } from './uniforms.js';

const SLOT_BYTES = 256;
const SLOTS = 4096;
const MAX_CACHED_GROUPS = 8192;
/**
 * After this many new bind groups V8 is asked to collect evicted ones. lavapipe maps a page for each, and crashes when the
 * process reaches its limit of mappings (Linux: 65,530).
 */
const MAX_NEW_GROUPS = 8192;
/** After the destruction of buffers so many are worth a collection, which takes milliseconds. */
const MAX_DEAD_GROUPS = 256;

/** The range of a tensor's buffer that a program sees. */
function binding({ buffer, byteOffset: offset, byteLength }: BufferView): GPUBufferBinding {
  // Rounded up to 16 bytes: a vec4 binding may end inside the padding that every buffer has.
  const size = Math.max(16, Math.ceil(byteLength / 16) * 16);
  const guarded = buffer.guard !== undefined && offset + size >= buffer.guard;
  return { buffer: buffer.gpu, offset, size: guarded ? buffer.gpu.size - offset : size };
}

/** Whether it is a whole number up to `most`. */
const isExtent = (value: unknown, most: number): value is number =>
  typeof value === 'number' && value >>> 0 === value && value <= most;

/** The part of a device that the recorder uses. */
interface RecorderHost {
  readonly gpu: GPUDevice;
  readonly limits: RangeLimits & { readonly maxComputeWorkgroupsPerDimension: number };
  readonly assumedRates: { readonly flops: number; readonly bytes: number };
  readonly programs: ProgramCache;
  readonly profiler: Profiler | undefined;
  /** Throws the device's failure, if any. */
  check(): void;
  /** Waits until the GPU has done all submitted work. */
  drain(): Promise<void>;
}

/**
 * Records dispatches into one pass and submits them together. It keeps parameters in slots of one uniform buffer, caches
 * bind groups, and submits after about half a second of estimated work, because drivers kill long submits (Windows TDR:
 * 2 s).
 */
export class Recorder {
  readonly #device: RecorderHost;
  readonly #uniforms: GPUBuffer;
  readonly #params = new UniformWords((SLOT_BYTES / 4) * SLOTS);
  readonly #groups = new BindGroupCache(MAX_CACHED_GROUPS);
  /** Dynamic offset of the next dispatch; one array for all, since garbage is most of the cost of a dispatch. */
  readonly #offset = [0];
  #encoder: GPUCommandEncoder | undefined;
  #pass: GPUComputePassEncoder | undefined;
  #pipeline: GPUComputePipeline | undefined;
  #slot = 0;
  /** Since garbage was last collected. */
  #groupsMade = 0;
  #seconds = 0;
  #dispatches = 0;
  #submits = 0;

  /** @internal */
  constructor(device: RecorderHost) {
    this.#device = device;
    this.#uniforms = device.gpu.createBuffer({
      label: 'uniform slots',
      size: SLOT_BYTES * SLOTS,
      usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
    });
  }

  /** Number of dispatches recorded since the device was opened. */
  get dispatches(): number {
    return this.#dispatches;
  }

  /** Number of submits since the device was opened. */
  get submits(): number {
    return this.#submits;
  }

  /**
   * Records one run of a program. What is wrong with it is thrown here, nothing is recorded then, and the device stays
   * usable; GPU failures surface later, in `finish`.
   *
   * @throws RmError SHADER_COMPILE when the program does not compile; INVALID_ARGUMENT when tensors or parameters do not fit
   *   the program or the device, or a tensor is written and bound twice.
   */
  dispatch(dispatch: Dispatch): void {
    // No destructuring of lists below: an iterator takes longer than the few words.
    const { program: spec, tensors: given, params = [], grid, flops = 0, bytes = 0 } = dispatch ?? {};
    this.#device.check();
    const program = this.#device.programs.get(spec);
    const { key } = program;
    const x = grid?.[0];
    const y = grid?.[1] ?? 1;
    const z = grid?.[2] ?? 1;
    const most = this.#device.limits.maxComputeWorkgroupsPerDimension;
    // Texts of errors are made only for errors: this runs for every dispatch.
    if (!(isExtent(x, most) && isExtent(y, most) && isExtent(z, most))) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `'${key}' would need ${[x, y, z].map(String).join(' x ')} workgroups`,
        `They are whole numbers, and this device allows ${most} per dimension: work on fewer rows at a time.`,
      );
    }
    if (!(typeof flops === 'number' && flops >= 0 && typeof bytes === 'number' && bytes >= 0)) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `'${key}' has \`flops\` or \`bytes\` below 0`,
        'Leave them out, or estimate.',
      );
    }
    const tensors = boundTensors(this.#device, program, given);
    for (const name in dispatch) if (!dispatchNames.has(name)) throw unknownName(key, name);
    if (x === 0 || y === 0 || z === 0) return;
    if (this.#slot === SLOTS) this.flush();
    this.#params.write(program, params, (this.#slot * SLOT_BYTES) / 4);
    const group = this.#groups.get(program.id, tensors) ?? this.#createGroup(program, tensors);

    const { profiler } = this.#device;
    if (profiler) {
      // Timestamps are written at the ends of a pass, so each profiled dispatch needs its own.
      this.#endPass();
      this.#pass = this.#commands().beginComputePass({
        label: key,
        timestampWrites: profiler.next(key, flops, bytes),
      });
    } else {
      this.#pass ??= this.#commands().beginComputePass();
    }
    if (this.#pipeline !== program.pipeline) {
      this.#pass.setPipeline(program.pipeline);
      this.#pipeline = program.pipeline;
    }
    this.#offset[0] = this.#slot * SLOT_BYTES;
    this.#pass.setBindGroup(0, group, this.#offset);
    this.#pass.dispatchWorkgroups(x, y, z);
    if (profiler) this.#endPass();
    this.#slot++;
    this.#dispatches++;
    const rates = this.#device.assumedRates;
    this.#seconds += Math.max(flops / rates.flops, bytes / rates.bytes);
    if (this.#seconds > 0.5 || profiler?.full) this.flush();
  }

  /** Copies `source` to `target` (same byte length). @throws RmError INVALID_ARGUMENT. */
  copy(source: BufferView, target: BufferView): void {
    this.#usable(source, 'source');
    this.#usable(target, 'target');
    ensure(
      source.buffer !== target.buffer,
      `'${source.label}' cannot be copied within its buffer`,
      'Copy it to another tensor first.',
    );
    ensure(
      source.byteLength === target.byteLength,
      `cannot copy '${source.label}' (${source.byteLength} bytes) to '${target.label}' (${target.byteLength} bytes)`,
      'Copy between tensors of the same size.',
    );
    const bytes = Math.ceil(source.byteLength / 4) * 4;
    if (bytes === 0) return;
    this.#endPass();
    this.#commands().copyBufferToBuffer(
      source.buffer.gpu,
      source.byteOffset,
      target.buffer.gpu,
      target.byteOffset,
      bytes,
    );
  }

  /** Fills a tensor with zero bytes. @throws RmError INVALID_ARGUMENT. */
  clear(tensor: BufferView): void {
    this.#usable(tensor, 'tensor');
    const bytes = Math.ceil(tensor.byteLength / 4) * 4;
    if (bytes === 0) return;
    this.#endPass();
    this.#commands().clearBuffer(tensor.buffer.gpu, tensor.byteOffset, bytes);
  }

  /** @internal Copies a tensor's bytes into a mappable buffer, from its byte `at` on; for transfer.ts. */
  copyOut(tensor: BufferView, target: GPUBuffer, at: number): void {
    requireWords(tensor);
    const bytes = Math.ceil(tensor.byteLength / 4) * 4;
    if (bytes === 0) return;
    this.#endPass();
    this.#commands().copyBufferToBuffer(tensor.buffer.gpu, tensor.byteOffset, target, at, bytes);
  }

  /** @internal Copies a mappable buffer's bytes into a tensor, from its byte `at` on; for staging.ts. */
  copyIn(source: GPUBuffer, tensor: BufferView, at: number, bytes: number): void {
    this.#endPass();
    this.#commands().copyBufferToBuffer(source, 0, tensor.buffer.gpu, tensor.byteOffset + at, bytes);
  }

  /** Submits all recorded work and does not wait. */
  flush(): void {
    if (!this.#encoder) return;
    this.#endPass();
    this.#device.profiler?.resolve(this.#encoder);
    const commands = this.#encoder.finish();
    const { queue } = this.#device.gpu;
    if (this.#slot)
      queue.writeBuffer(this.#uniforms, 0, this.#params.words, 0, (this.#slot * SLOT_BYTES) / 4);
    queue.submit([commands]);
    this.#submits++;
    this.#device.profiler?.count('submits');
    this.#device.profiler?.collect();
    this.#encoder = undefined;
    this.#slot = 0;
    this.#seconds = 0;
  }

  /** Submits all recorded work and waits for it. @throws RmError for any GPU failure so far. */
  async finish(): Promise<void> {
    this.#device.check();
    this.flush();
    await this.#device.drain();
  }

  /** @internal Drops the cached bind groups, after buffers were destroyed. */
  forget(): void {
    this.#groups.clear();
    if (this.#groupsMade >= MAX_DEAD_GROUPS) this.#collectGroups();
  }

  /** Frees the uniform buffer; `Device.close` calls this. */
  close(): void {
    this.#uniforms.destroy();
    this.forget();
  }

  #commands(): GPUCommandEncoder {
    this.#encoder ??= this.#device.gpu.createCommandEncoder();
    return this.#encoder;
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = undefined;
    this.#pipeline = undefined;
  }

  #collectGroups(): void {
    collectGarbage();
    this.#groupsMade = 0;
  }

  /** Throws unless the device is usable and this is a tensor of it. */
  #usable(tensor: BufferView, what: string): void {
    this.#device.check();
    if (tensor?.device !== this.#device) throw notOfDevice('recorder', what, tensor);
    requireWords(tensor);
  }

  #createGroup(program: Program, tensors: readonly BufferView[]): GPUBindGroup {
    checkRanges(this.#device.limits, program, tensors);
    if (++this.#groupsMade >= MAX_NEW_GROUPS) this.#collectGroups();
    const group = this.#device.gpu.createBindGroup({
      label: program.key,
      layout: program.layout,
      entries: [
        { binding: 0, resource: { buffer: this.#uniforms, size: SLOT_BYTES } },
        ...tensors.map((tensor, i) => ({ binding: i + 1, resource: binding(tensor) })),
      ],
    });
    this.#groups.set(program.id, tensors, group);
    return group;
  }
}
