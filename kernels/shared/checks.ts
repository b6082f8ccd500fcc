import { type DType, ensure, ensureTensor, Recorder, RmError, Tensor } from '../../engine/index.js';

/** Dtypes that kernels widen to f32 as they read. */
export type FloatType = Exclude<DType, 'u32'>;
/** All dtypes that kernels widen to f32. */
export const floats: readonly FloatType[] = ['f32', 'f16', 'bf16'];

/**
 * Throws INVALID_ARGUMENT unless `rec` is a recorder, all operands are tensors, and all matrices are tensors or pairs of
 * them (double-single). For the beginning of a public kernel: what comes after reads their shapes.
 */
export function checkOperands(
  kernel: string,
  rec: Recorder,
  operands: Readonly<Record<string, unknown>>,
  matrices: Readonly<Record<string, unknown>> = {},
): void {
  ensure(rec instanceof Recorder, `${kernel} got no recorder`, 'Pass `device.recorder` first.');
  for (const name in operands) ensureTensor(operands[name], `${kernel}: '${name}'`);
  for (const name in matrices) {
    const { hi, lo } = (matrices[name] ?? {}) as { hi?: unknown; lo?: unknown };
    if (!(hi instanceof Tensor && lo instanceof Tensor)) ensureTensor(matrices[name], `${kernel}: '${name}'`);
  }
}

/** Throws INVALID_ARGUMENT unless `options` is an object of settings. */
export function checkOptions(kernel: string, options: unknown): void {
  ensure(
    typeof options === 'object' && options !== null && !(options instanceof Tensor),
    `${kernel}: the options are ${options === null ? 'null' : typeof options}`,
    'Pass an object of settings, or leave it out.',
  );
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
