import type { Device, Recorder, Scope, Tensor } from '../../engine/index.js';

/** One way of running a case, e.g. "tiled 128x64"; each kernel's own variants say more. */
export interface CaseVariant {
  readonly name: string;
}

/**
 * One run of one kernel. The test compares `output` with `reference()`, for every variant; `rm-engine bench kernels`
 * times `run` and prints GFLOP/s and GB/s from `flops` and `bytes`. Both read the same list.
 */
export interface KernelCase<V extends CaseVariant = CaseVariant> {
  kernel: string;
  /** Shape and dtypes, e.g. "129x576x1000 bf16". */
  name: string;
  flops: number;
  bytes: number;
  /** Also timed by `bench kernels`; cases of odd sizes only serve the test. */
  bench: boolean;
  /** Largest |output - expected|_F / scale that passes. */
  tolerance: number;
  /** The variants that this device can run, first the one that runs by default. Absent: there is only one. */
  variants?(device: Device): readonly V[];
  /** Makes inputs and outputs, which belong to `scope`. */
  setup(scope: Scope): PreparedCase<V> | Promise<PreparedCase<V>>;
}

/** A case whose tensors are on the device. */
export interface PreparedCase<V extends CaseVariant = CaseVariant> {
  /** By default as the kernel chooses. */
  run(rec: Recorder, variant?: V): void;
  output: Tensor;
  /** Computed on the host in f64. `scale` defaults to |expected|_F; matmul states the operands' norm product. */
  reference(): { expected: ArrayLike<number>; scale?: number };
}
