import { checkArguments, numeric } from './arguments.js';
import type { DType } from './dtype.js';
import { ensure, RmError } from './errors.js';
import { finite } from './form.js';
import type { PooledBuffer } from './memory.js';
import { didYouMean } from './nearestWord.js';
import type { ProgramSpec } from './program.js';
import type { Program } from './programCache.js';

const scratch = new DataView(new ArrayBuffer(4));

/**
 * Encodes an f32 uniform parameter as the u32 word that a list of `Dispatch.params` takes.
 *
 * @throws RmError INVALID_ARGUMENT for anything but a number.
 */
export function f32Bits(value: number): number {
  checkArguments('f32Bits', { value }, { value: numeric });
  scratch.setFloat32(0, value);
  return scratch.getUint32(0);
}

/**
 * Spreads a flat range of workgroups over two dimensions, since one dimension holds at most 65,535. In WGSL the flat
 * workgroup index is `wid.y * num_workgroups.x + wid.x`; the last row may reach past the end, so kernels check it.
 */
export function flatGrid(groups: number): [number, number, number] {
  checkArguments('flatGrid', { groups }, { groups: finite(0) });
  const y = Math.max(1, Math.ceil(groups / 65535));
  // Rows of equal length: 65,536 workgroups become 2 rows of 32,768, not a row of 65,535 and a nearly idle one.
  return [Math.ceil(groups / y), y, 1];
}

/** A tensor as the recorder sees it: a range of a buffer with a shape and a dtype. */
export interface BufferView {
  /** The device that the buffer belongs to. */
  readonly device: object;
  readonly label: string;
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly buffer: PooledBuffer;
  readonly byteOffset: number;
  readonly byteLength: number;
  /** Whether it consists of whole 32-bit words, or ends with its buffer: only such ranges are copied and cleared. */
  readonly wholeWords: boolean;
}

/** One run of a program over a grid of workgroups, for `Recorder.dispatch`. */
export interface Dispatch {
  program: ProgramSpec;
  /** The program's storage bindings: by name where it names them, else in order. */
  tensors: readonly BufferView[] | Readonly<Record<string, BufferView>>;
  /**
   * The program's parameters: by name where it names them, else the words of its uniform block (u32 as they are, f32
   * through f32Bits).
   */
  params?: readonly number[] | Readonly<Record<string, number>>;
  /** Workgroups in x, y and z; a 0 records nothing. */
  grid: readonly [number, number?, number?];
  /** Estimates of the work, for profiling and for splitting long submits. */
  flops?: number;
  bytes?: number;
}

/** The names of the fields of a `Dispatch`. */
export const dispatchNames: ReadonlySet<string> = new Set<keyof Dispatch>([
  ...(['program', 'tensors', 'params', 'grid', 'flops', 'bytes'] as const),
]);

export const unknownName = (key: string, name: string): RmError =>
  new RmError(
    'INVALID_ARGUMENT',
    `'${key}': a dispatch has no '${name}'`,
    `${didYouMean(name, [...dispatchNames])}It has ${[...dispatchNames].join(', ')}.`,
  );

/** What a device allows of the range that a program binds, in bytes. */
export type RangeLimits = Readonly<
  Record<'maxStorageBufferBindingSize' | 'minStorageBufferOffsetAlignment', number>
>;

export function notOfDevice(key: string, name: string, tensor: BufferView | undefined): RmError {
  return tensor?.device
    ? new RmError(
        'INVALID_ARGUMENT',
        `'${key}': tensor ${name}, '${tensor.label}' [${tensor.shape}], is on another device`,
        'Download it, and create it again on the device that records.',
      )
    : new RmError(
        'INVALID_ARGUMENT',
        `'${key}': ${name} is no tensor`,
        'Pass a tensor, as Tensor.create and tensorFrom return it.',
      );
}

/** Named tensors in the order of the program's bindings. */
function inOrder(
  key: string,
  named: NonNullable<Program['named']>,
  given: Dispatch['tensors'],
): BufferView[] {
  const names = named.map(({ name }) => name);
  const tensors = (given ?? {}) as Readonly<Record<string, BufferView>>;
  const unknown = Object.keys(tensors).find(name => !names.includes(name));
  ensure(
    unknown === undefined,
    `'${key}' has no tensor '${unknown}'`,
    `${didYouMean(`${unknown}`, names)}It binds ${names.join(', ')}.`,
  );
  return names.map(name => tensors[name]!);
}

/** Throws unless only whole words of the tensor's buffer are copied. */
export function requireWords(tensor: BufferView): void {
  ensure(
    tensor.wholeWords,
    `a view of '${tensor.label}', [${tensor.shape}] ${tensor.dtype}, begins or ends within a 32-bit word`,
    'Take an even number of 16-bit elements, or copy with `convert`.',
  );
}

/** The tensors of a dispatch in the order of the bindings, each of this device and of the dtype that is named. */
export function boundTensors(
  device: object,
  { key, accesses, named }: Program,
  given: Dispatch['tensors'],
): readonly BufferView[] {
  const tensors = named ? inOrder(key, named, given) : (given as readonly BufferView[]);
  if (!Array.isArray(tensors) || tensors.length !== accesses.length) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `'${key}' binds ${accesses.length} tensors, got ${Array.isArray(tensors) ? tensors.length : typeof given}`,
      'Pass the tensors in the order of the bindings.',
    );
  }
  for (let i = 0; i < tensors.length; i++) {
    const tensor = tensors[i] as BufferView;
    if (tensor?.device !== device) throw notOfDevice(key, named?.[i]?.name ?? `${i + 1}`, tensor);
    if (!named || named[i]!.dtype === tensor.dtype) continue;
    throw new RmError(
      'INVALID_ARGUMENT',
      `'${key}': tensor ${named[i]!.name} is '${tensor.label}' [${tensor.shape}] ${tensor.dtype}, ${named[i]!.dtype} is needed`,
      'Pass a tensor of that dtype, or convert it.',
    );
  }
  return tensors;
}

/** Throws unless the device can bind these ranges together. */
export function checkRanges(
  limits: RangeLimits,
  { key, accesses }: Program,
  tensors: readonly BufferView[],
): void {
  tensors.forEach((tensor, i) => {
    const most = limits.maxStorageBufferBindingSize;
    ensure(
      tensor.byteLength <= most,
      `'${tensor.label}' [${tensor.shape}] has ${tensor.byteLength} bytes, '${key}' can bind ${most}`,
      'This is the limit of the device: use fewer tokens per batch, or split the tensor by rows.',
    );
    const alignment = limits.minStorageBufferOffsetAlignment;
    ensure(
      tensor.byteOffset % alignment === 0,
      `'${tensor.label}' [${tensor.shape}] ${tensor.dtype} begins at byte ${tensor.byteOffset} of its buffer`,
      `Begin the view at a row whose offset is a multiple of ${alignment} bytes.`,
    );
    if (accesses[i] !== 'write') return;
    const twin = tensors.findIndex((other, j) => j !== i && other.buffer.id === tensor.buffer.id);
    ensure(
      twin < 0,
      `'${key}' writes '${tensor.label}' and binds its buffer again as argument ${twin + 1}`,
      'Write to a tensor that is not bound twice.',
    );
  });
}
