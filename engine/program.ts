import { RmError } from './errors.js';
import { reasonOf } from './reasons.js';

/** How a program uses a storage binding: 'read' is var<storage, read>, 'write' is var<storage, read_write>. */
export type Access = 'read' | 'write';

/** The properties of a device that generated WGSL may depend on besides its key. */
export interface ProgramTarget {
  /** How the program computes sums and products that must be rounded correctly; see exactArithmetic.ts. */
  readonly exact: 'float' | 'integer';
}

/** A WGSL compute program, which compiles at its first dispatch, once per device and key. */
export interface ProgramSpec {
  /** Names the kernel and everything that its WGSL is generated from, e.g. "matmul f32 bf16 32x32". */
  key: string;
  /** Storage bindings 1..n in order; binding 0 is always the uniform block of parameters. */
  bindings: readonly Access[];
  /** Generates the WGSL, whose entry point is `main`; called once per key. */
  wgsl: (target: ProgramTarget) => string;
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

/**
 * Whether RM_ENGINE_WRONG_KERNEL names this program by the beginning of its key, as in "matmul tiled 128x64": it is then
 * compiled to compute nothing, as a driver's fault for tests to find.
 */
function plantedAs(key: string): boolean {
  const planted = process.env.RM_ENGINE_WRONG_KERNEL;
  return planted ? key.startsWith(planted) : false;
}

const computingNothing = (wgsl: string): string =>
  wgsl.replace(/(fn main\([^{]*\{)/, '$1 if (true) { return; }');

/** A compiled program. */
export interface Program {
  readonly id: number;
  readonly key: string;
  readonly bindings: readonly Access[];
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** Caches compiled programs by key, so that each compiles once per device. */
export class ProgramCache {
  readonly #programs = new Map<string, Program>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #compileMilliseconds = 0;
  #exact: ProgramTarget['exact'] = 'float';
  /** Keys of programs whose WGSL depends on `exact`. */
  readonly #exactKeys = new Set<string>();
  #nextId = 0;

  constructor(
    private readonly device: GPUDevice,
    /** Receives the outcome of each compilation, which Dawn reports after the call. */
    private readonly pending: (outcome: Promise<RmError | undefined>) => void,
  ) {}

  /** Number of compiled programs. */
  get size(): number {
    return this.#programs.size;
  }

  /** Host time spent in compile calls. Drivers may leave part of the work to a program's first dispatch. */
  get compileMilliseconds(): number {
    return this.#compileMilliseconds;
  }

  /** Sets how programs do exact arithmetic; programs that depend on it are compiled again. */
  set exact(exact: ProgramTarget['exact']) {
    if (exact === this.#exact) return;
    this.#exact = exact;
    for (const key of this.#exactKeys) this.#programs.delete(key);
    this.#exactKeys.clear();
  }

  /** How programs do exact arithmetic. */
  get exact(): ProgramTarget['exact'] {
    return this.#exact;
  }

  /** @internal Returns the compiled program. Compile errors surface later, in `Device.check`, `finish` or a download. */
  get(spec: ProgramSpec): Program {
    return this.#programs.get(spec.key) ?? this.#compile(spec);
  }

  #compile({ key, bindings, wgsl }: ProgramSpec): Program {
    const { device } = this;
    const [exact, exactKeys] = [this.#exact, this.#exactKeys];
    const generated = wgsl({
      get exact() {
        exactKeys.add(key);
        return exact;
      },
    });
    const code = plantedAs(key) ? computingNothing(generated) : generated;
    const layout = this.#layout(bindings);
    const started = performance.now();
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ label: key, code });
    const pipeline = device.createComputePipeline({
      label: key,
      layout: device.createPipelineLayout({ label: key, bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: 'main' },
    });
    this.#compileMilliseconds += performance.now() - started;
    // Only a lost device rejects, here or in compileError, and the device reports that itself.
    const outcome = device.popErrorScope().then(error => error && compileError(key, code, module, error));
    this.pending(outcome.then(reason => reason ?? undefined).catch(() => undefined));
    const program = { id: this.#nextId++, key, bindings, pipeline, layout };
    this.#programs.set(key, program);
    return program;
  }

  #layout(bindings: readonly Access[]): GPUBindGroupLayout {
    const key = bindings.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        label: key,
        entries: [
          {
            binding: 0,
            visibility: GPUShaderStage.COMPUTE,
            buffer: { type: 'uniform' as const, hasDynamicOffset: true },
          },
          ...bindings.map((access, i) => ({
            binding: i + 1,
            visibility: GPUShaderStage.COMPUTE,
            buffer: { type: access === 'read' ? ('read-only-storage' as const) : ('storage' as const) },
          })),
        ],
      });
      this.#layouts.set(key, layout);
    }
    return layout;
  }
}

/** Takes the reason from the compilation info: Dawn's pipeline error says only "invalid shader module". */
async function compileError(
  key: string,
  code: string,
  module: GPUShaderModule,
  error: GPUError,
): Promise<RmError> {
  const lines = code.split('\n');
  const { messages } = await module.getCompilationInfo();
  const reasons = messages
    .filter(message => message.type === 'error')
    .map(
      ({ lineNum, linePos, message }) => `${lineNum}:${linePos} ${message}\n  > ${lines[lineNum - 1] ?? ''}`,
    );
  return new RmError(
    'SHADER_COMPILE',
    `program '${key}' does not compile: ${reasons.join('\n') || reasonOf(error)}`,
    'Correct the WGSL. If the kernel is part of rm-engine, please report this with: rm-engine doctor --json',
  );
}
