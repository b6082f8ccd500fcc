import type { DType } from './dtype.js';
import { ensure } from './errors.js';

/** How a program uses a storage binding: 'read' is var<storage, read>, 'write' is var<storage, read_write>. */
export type Access = 'read' | 'write';

/** A named storage binding: how it is used, and the dtype of the tensors that fit, e.g. 'read bf16'. */
export type Binding = `${Access} ${DType}`;

/** The type of a uniform parameter. */
export type ParameterType = 'u32' | 'i32' | 'f32';

/** The properties of a device that generated WGSL may depend on besides its key. */
export interface ProgramTarget {
  /** How the program computes sums and products that must be rounded correctly; see exactArithmetic.ts. */
  readonly exact: 'float' | 'integer';
  /** Whether its threads have few registers (Intel's), so that loops which keep many sums are better not written out. */
  readonly fewRegisters: boolean;
}

/** A WGSL compute program, which compiles at its first dispatch or in `Device.compile`, once per device. */
export interface ProgramSpec {
  /** Names the kernel and everything that its WGSL is generated from, e.g. "matmul f32 bf16 32x32"; the profiler's name. */
  readonly key: string;
  /**
   * The uniform parameters by name, in order: the engine declares them, WGSL reads `p.name`. Without them the WGSL declares
   * a uniform block at binding 0 itself, if it needs one, and dispatches pass its words.
   */
  readonly params?: Readonly<Record<string, ParameterType>>;
  /**
   * Storage bindings 1..n in order. Named ones are declared by the engine, as arrays of f32 or u32; f16 and bf16 as u32, two
   * elements a word. A list of accesses leaves the declarations to the WGSL.
   */
  readonly bindings: readonly Access[] | Readonly<Record<string, Binding>>;
  /** WGSL, whose entry point is `main`, or a function that generates it. */
  readonly wgsl: string | ((target: ProgramTarget) => string);
}

const elementTypes = /^(?:f32|f16|bf16|u32|vec[24][fu]?)$/;

/**
 * The kernel that a program's key belongs to: its name with variant and shape class, without the types of its tensors.
 * "matmul broadcast 32x32: f32 bf16 vec4" -> "matmul broadcast 32x32".
 */
export function kernelOfProgram(key: string): string {
  const words = key.split(':')[0]!.split(' ');
  while (words.length > 1 && elementTypes.test(words.at(-1)!)) words.pop();
  return words.join(' ');
}

/**
 * Caches the programs that `make` returns, by its arguments. Building a program for every dispatch would cost more than
 * the dispatch.
 */
export function programFamily<Args extends readonly (string | number | boolean)[]>(
  make: (...args: Args) => ProgramSpec,
): (...args: Args) => ProgramSpec {
  ensure(
    typeof make === 'function',
    'a family of programs without a function',
    'Pass a function that makes a program.',
  );
  const members = new Map<string, ProgramSpec>();
  return (...args) => {
    const key = args.join();
    let spec = members.get(key);
    if (!spec) {
      spec = make(...args);
      members.set(key, spec);
    }
    return spec;
  };
}
