/**
 * The codes of `RmError`, each with the sentence that explains it in docs/errors.md. Codes are stable: scripts may match
 * on them.
 */
export const errorCodes = {
  ADAPTER_NONE: 'No usable WebGPU adapter was found.',
  ADAPTER_UNSUITABLE: 'The adapter lacks a limit or feature that the work needs.',
  DEVICE_LOST: 'The GPU device was lost while working (driver reset, time-out, GPU removed).',
  GPU_ERROR: 'The GPU reported an error; results since then cannot be trusted and are not written.',
  OUT_OF_MEMORY: 'The device or the memory limit has no room for a buffer.',
  SHADER_COMPILE: 'A WGSL program did not compile on this adapter.',
  SELF_TEST_FAILED: 'The kernels cannot rely on the arithmetic of this adapter and driver.',
  INVALID_ARGUMENT: 'A function or command was called with values that do not fit together.',
  CHECKPOINT_MISSING: 'A model folder or one of its files is missing or cannot be read.',
  CHECKPOINT_CORRUPT: 'A checkpoint file contradicts itself, its index or its config.json.',
  CONFIG_INVALID:
    'config.json, a tokenizer file or a configuration file lacks a field or holds a wrong value.',
  DOWNLOAD_FAILED: 'The Hugging Face hub refused a download, cannot be reached, or sent something else.',
  UNSUPPORTED_FAMILY: 'The model architecture is not one of the supported families.',
  UNSUPPORTED_DTYPE: 'The checkpoint stores a tensor in a number type that is not supported.',
  DATA_INVALID: 'A text, token or statistics file, or the state of an interrupted run, has the wrong format.',
  NOT_FINITE: 'NaN or infinity occurred where finite numbers are needed.',
  NOT_POSITIVE_DEFINITE: 'A matrix cannot be factorised because it is not positive definite.',
  NOT_CONVERGED: 'An iterative solve stopped before it reached the requested accuracy.',
  DIVERGED: 'Training made the model worse and worse, or its numbers were no longer finite.',
  OUTPUT_EXISTS:
    'Something is in the place of the output, the output would touch an input, an interrupted run has left its state beside it, or another run is writing it.',
  OUTPUT_FAILED: 'Writing the result failed; no partial output is left.',
  VERIFICATION_FAILED: 'The written model does not reproduce the model in memory.',
} as const;

/** A stable code that says what kind of failure an `RmError` is; `errorCodes` explains each. */
export type ErrorCode = keyof typeof errorCodes;

/** The only error type of the project: `message` says what went wrong with which input, `fix` how to mend it. */
export class RmError extends Error {
  override readonly name = 'RmError';

  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly fix: string,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Throws INVALID_ARGUMENT unless `condition` holds; for preconditions that callers control. */
export function ensure(condition: boolean, message: string, fix: string): asserts condition {
  if (!condition) throw new RmError('INVALID_ARGUMENT', message, fix);
}
