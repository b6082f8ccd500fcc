import {
  Device,
  type DType,
  ensureTensor,
  type Form,
  instanceOf,
  isRecord,
  numeric,
  optional,
  Recorder,
  RmError,
  Scope,
  shownKind,
  Tensor,
} from '../../engine/index.js';

/** Dtypes that kernels widen to f32 as they read. */
export type FloatType = Exclude<DType, 'u32'>;
/** All dtypes that kernels widen to f32. */
export const floats: readonly FloatType[] = ['f32', 'f16', 'bf16'];

export const aDevice: Form<Device> = instanceOf(Device, 'a device');
export const aTensor: Form<Tensor> = instanceOf(Tensor, 'a tensor');
export const maybeTensor: Form<Tensor | undefined> = optional(aTensor);
export const maybeNumber: Form<number | undefined> = optional(numeric);

/** A `DoubleSingle`, whose file imports this one. */
export interface Pair {
  hi: Tensor;
  lo: Tensor;
}

/** A double-single tensor: both parts of one shape, f32. */
export const aPair: Form<Pair> = (value, place) => {
  if (!isRecord(value) || !(value.hi instanceof Tensor && value.lo instanceof Tensor))
    return `${place} is ${shownKind(value)}, not a double-single tensor { hi, lo }`;
  const { hi, lo } = value;
  if (hi.dtype === 'f32' && lo.dtype === 'f32' && `${hi.shape}` === `${lo.shape}`) return undefined;
  return `${place} has parts [${hi.shape}] ${hi.dtype} and [${lo.shape}] ${lo.dtype}, not two f32 tensors of one shape`;
};

/** A tensor, or a double-single one. */
export const aMatrix: Form<Tensor | Pair> = (value, place) =>
  isRecord(value) && 'hi' in value ? aPair(value, place) : aTensor(value, place);

/** A device, or a scope of one: what owns new tensors. */
export const anOwner: Form<Device | Scope> = (value, place) =>
  value instanceof Scope ? undefined : aDevice(value, place);

/** What `for ... of` takes. */
export const iterable: Form<Iterable<unknown>> = (value, place) =>
  typeof value === 'object' && value !== null && Symbol.iterator in value
    ? undefined
    : `${place} is ${shownKind(value)}, not a list`;

/** A list of numbers, or a typed array. */
export const someNumbers: Form<ArrayLike<number>> = (value, place) =>
  (Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView))) &&
  Array.prototype.every.call(value, each => typeof each === 'number')
    ? undefined
    : `${place} is ${shownKind(value)}, not a list of numbers`;

/**
 * Throws INVALID_ARGUMENT unless `rec` is a recorder and all operands are tensors. For the beginning of a public kernel: what
 * comes after reads their shapes. `checkArguments` checks what else it takes.
 */
export function checkOperands(
  kernel: string,
  rec: Recorder,
  operands: Readonly<Record<string, unknown>>,
): void {
  // Texts are made for errors only: this runs for every dispatch.
  if (!(rec instanceof Recorder))
    throw new RmError('INVALID_ARGUMENT', `${kernel} got no recorder`, 'Pass `device.recorder` first.');
  for (const name in operands) {
    const operand = operands[name];
    if (!(operand instanceof Tensor)) ensureTensor(operand, `${kernel}: '${name}'`);
  }
}

/** Throws INVALID_ARGUMENT unless `tensor` has this shape and one of these dtypes; the message names both. */
export function checkTensor(
  kernel: string,
  name: string,
  tensor: Tensor,
  shape: readonly number[],
  dtypes: readonly DType[] = ['f32'],
): void {
  let fits = tensor.shape.length === shape.length && dtypes.includes(tensor.dtype);
  for (let i = 0; i < shape.length; i++) fits &&= shape[i] === tensor.shape[i];
  if (fits) return;
  throw new RmError(
    'INVALID_ARGUMENT',
    `${kernel}: '${name}' is [${tensor.shape}] ${tensor.dtype}, [${shape}] ${dtypes.join(' or ')} is needed`,
    'Pass tensors whose shapes and dtypes match.',
  );
}

/** Returns rows and columns of a matrix. @throws RmError INVALID_ARGUMENT for other ranks or dtypes. */
export function checkMatrix(
  kernel: string,
  name: string,
  tensor: Tensor,
  dtypes: readonly DType[] = ['f32'],
): [rows: number, columns: number] {
  const [rows = 0, columns = 0] = tensor.shape;
  if (tensor.shape.length === 2 && dtypes.includes(tensor.dtype)) return [rows, columns];
  throw new RmError(
    'INVALID_ARGUMENT',
    `${kernel}: '${name}' is [${tensor.shape}] ${tensor.dtype}, two dimensions of ${dtypes.join(' or ')} are needed`,
    'Pass a matrix, one row per token.',
  );
}
