import type { Device, Recorder, Scope, Tensor } from '../../engine/index.js';

/** A variant of the kernel of a case, e.g. "tiled 128x64"; each kernel adds its own fields. */
export interface CaseVariant {
  readonly name: string;
}

/**
 * One run of one kernel, for tests and benchmarks alike. The test compares `output` with `reference()` for every variant;
 * `rm-engine bench kernels` times `run` and prints GFLOP/s and GB/s from `flops` and `bytes`.
 */
export interface KernelCase<V extends CaseVariant = CaseVariant> {
  kernel: string;
  /** Shape and dtypes, e.g. "129x576x1000 bf16". */
  name: string;
  flops: number;
  bytes: number;
  /** Whether `bench kernels` times it; cases of odd sizes only serve the test. */
  bench: boolean;
  /** Largest accepted |output - expected|_F / scale. */
  tolerance: number;
  /** The variants that this device can run, the default first; absent if there is only one. */
  variants?(device: Device): readonly V[];
  /** Creates inputs and outputs, which belong to `scope`. */
  setup(scope: Scope): PreparedCase<V> | Promise<PreparedCase<V>>;
}

/** A case with its tensors on the device. */
export interface PreparedCase<V extends CaseVariant = CaseVariant> {
  /** Records the kernel, by default with the variant that it chooses itself. */
  run(rec: Recorder, variant?: V): void;
  output: Tensor;
  /** Computes the result on the host in f64. `scale` defaults to |expected|_F; matmul returns the operands' norm product. */
  reference(): { expected: ArrayLike<number>; scale?: number };
}
