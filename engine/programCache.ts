import { checkArguments, settings, shownKind } from './arguments.js';
import { type DType, dtypes } from './dtype.js';
import { ensure, RmError } from './errors.js';
import { also, listOf, oneOf, optional, tableOf, textLike } from './form.js';
import type { Access, ParameterType, ProgramSpec, ProgramTarget } from './program.js';
import { reasonOf } from './reasons.js';
import { mostWords, uniformWords } from './uniforms.js';

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
  readonly accesses: readonly Access[];
  /** Names and dtypes of the bindings, where they are named. */
  readonly named: readonly { readonly name: string; readonly dtype: DType }[] | undefined;
  /** Names and types of the parameters, where they are named. */
  readonly params: readonly (readonly [name: string, type: ParameterType])[] | undefined;
  /** 32-bit words of the uniform block; undefined where its WGSL is too unusual to tell. */
  readonly words: number | undefined;
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
}

/** A spec as it was when it was compiled: objects can be changed afterwards. */
interface Known extends Pick<ProgramSpec, 'key' | 'params' | 'bindings' | 'wgsl'> {
  readonly program: Program;
}

/** Caches compiled programs by key and text, so that each compiles once per device. */
export class ProgramCache {
  /** By key, layout and whole text: equal keys with different text are different programs. */
  readonly #programs = new Map<string, Program>();
  /** The same by the objects that describe them: a text is generated once for each object. */
  #known = new WeakMap<ProgramSpec, Known>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  #compileMilliseconds = 0;
  #exact: ProgramTarget['exact'] = 'float';
  #nextId = 0;

  constructor(
    private readonly device: GPUDevice,
    /** Runs `work` and returns the errors that Dawn reports meanwhile, which are then no failure of the device. */
    private readonly errorsOf: (work: () => void) => readonly GPUError[],
    private readonly fewRegisters = false,
  ) {}

  /** Number of compiled programs. */
  get size(): number {
    return this.#programs.size;
  }

  /** Host time spent in compile calls. Drivers may leave part of the work to a program's first dispatch. */
  get compileMilliseconds(): number {
    return this.#compileMilliseconds;
  }

  /** Sets how programs do exact arithmetic; programs whose text depends on it are compiled again. */
  set exact(exact: ProgramTarget['exact']) {
    if (exact === this.#exact) return;
    this.#exact = exact;
    this.#known = new WeakMap();
  }

  /** How programs do exact arithmetic. */
  get exact(): ProgramTarget['exact'] {
    return this.#exact;
  }

  /** @internal Returns the compiled program. @throws RmError SHADER_COMPILE, INVALID_ARGUMENT; the device stays usable. */
  get(spec: ProgramSpec): Program {
    const known = typeof spec === 'object' && spec ? this.#known.get(spec) : undefined;
    if (
      known &&
      known.wgsl === spec.wgsl &&
      known.key === spec.key &&
      known.bindings === spec.bindings &&
      known.params === spec.params
    )
      return known.program;
    checkSpec(spec);
    const { key, params, bindings, wgsl } = spec;
    const target = { exact: this.#exact, fewRegisters: this.fewRegisters };
    const generated = typeof wgsl === 'string' ? wgsl : wgsl(target);
    ensure(typeof generated === 'string', `'${key}' generates no text`, 'Return WGSL from `wgsl`.');
    const text = `${declarations(spec)}${generated}`;
    const identity = JSON.stringify([key, params, bindings, text]);
    let program = this.#programs.get(identity);
    if (!program) {
      program = this.#compile(spec, plantedAs(key) ? computingNothing(text) : text);
      this.#programs.set(identity, program);
    }
    this.#known.set(spec, { key, params, bindings, wgsl, program } as Known);
    return program;
  }

  #compile(spec: ProgramSpec, code: string): Program {
    const { device } = this;
    const { key } = spec;
    const accesses = accessesOf(spec);
    let pipeline: GPUComputePipeline | undefined;
    let layout: GPUBindGroupLayout | undefined;
    const started = performance.now();
    const errors = this.errorsOf(() => {
      layout = this.#layout(accesses);
      const module = device.createShaderModule({ label: key, code });
      pipeline = device.createComputePipeline({
        label: key,
        layout: device.createPipelineLayout({ label: key, bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: 'main' },
      });
    });
    this.#compileMilliseconds += performance.now() - started;
    // The first is the cause of the others: that the module is invalid.
    if (errors.length > 0) throw compileError(key, code, errors[0]!);
    return {
      id: this.#nextId++,
      key,
      accesses,
      named: namedBindings(spec),
      params: spec.params && Object.entries(spec.params),
      words: spec.params ? Object.keys(spec.params).length : uniformWords(code),
      pipeline: pipeline!,
      layout: layout!,
    };
  }

  #layout(accesses: readonly Access[]): GPUBindGroupLayout {
    const key = accesses.join();
    let layout = this.#layouts.get(key);
    if (!layout) {
      layout = this.device.createBindGroupLayout({
        label: key,
        entries: [
          {
            binding: 0,
            visibility: GPUShaderStage.COMPUTE,
            // A larger block fails when the program is compiled.
            buffer: { type: 'uniform' as const, hasDynamicOffset: true, minBindingSize: 4 * mostWords },
          },
          ...accesses.map((access, i) => ({
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

const identifier = textLike(/^[A-Za-z][A-Za-z0-9_]*$/, 'a name as WGSL has them');
const accesses = oneOf('read', 'write');
const namedBinding = textLike(
  new RegExp(`^(read|write) (${dtypes.join('|')})$`),
  "an access and a dtype, as in 'read f32'",
);

/** The form of a `ProgramSpec`. */
const program = settings<ProgramSpec>({
  key: textLike(/./, 'a name for messages and the table of the profiler'),
  params: optional(
    also(tableOf(oneOf('u32', 'i32', 'f32'), identifier), params =>
      Object.keys(params).length > mostWords
        ? `program.params are more than ${mostWords}: pass the rest in a tensor`
        : undefined,
    ),
  ),
  bindings: (value, place) =>
    Array.isArray(value) ? listOf(accesses)(value, place) : tableOf(namedBinding, identifier)(value, place),
  wgsl: (value, place) =>
    typeof value === 'string' || typeof value === 'function'
      ? undefined
      : `${place} is ${shownKind(value)}, not WGSL or a function that returns it`,
});

/** Throws INVALID_ARGUMENT unless `spec` describes a program. */
function checkSpec(spec: ProgramSpec): void {
  const key = spec?.key;
  const named = typeof key === 'string' && key ? `'${key}'` : 'a kernel';
  checkArguments(named, { program: spec }, { program }, 'See the declaration of ProgramSpec.');
}

const namedBindings = ({ bindings }: ProgramSpec): Program['named'] =>
  Array.isArray(bindings)
    ? undefined
    : Object.entries(bindings).map(([name, binding]) => ({
        name,
        dtype: (binding as string).split(' ')[1] as DType,
      }));

const accessesOf = ({ bindings }: ProgramSpec): readonly Access[] =>
  Array.isArray(bindings)
    ? bindings
    : Object.values(bindings).map(binding => (binding as string).split(' ')[0] as Access);

/** WGSL of the named parameters and bindings, on one line, so that the lines of errors are those of the user's text. */
function declarations(spec: ProgramSpec): string {
  const fields = Object.entries(spec.params ?? {}).map(([name, type]) => `${name}: ${type}`);
  const uniform =
    fields.length > 0
      ? `struct ProgramParameters { ${fields.join(', ')} } @group(0) @binding(0) var<uniform> p: ProgramParameters; `
      : '';
  const accesses = accessesOf(spec);
  const buffers = (namedBindings(spec) ?? []).map(({ name, dtype }, i) => {
    const access = accesses[i] === 'read' ? 'read' : 'read_write';
    return `@group(0) @binding(${i + 1}) var<storage, ${access}> ${name}: array<${dtype === 'f32' ? 'f32' : 'u32'}>; `;
  });
  return `${uniform}${buffers.join('')}`;
}

/** An error with the place in the WGSL, which Dawn's message begins with; its stack is that of the dispatch. */
function compileError(key: string, code: string, error: GPUError): RmError {
  const place = /:(\d+):(\d+) error: (.*)/.exec(error.message);
  const reason = place
    ? `line ${place[1]}, column ${place[2]}: ${place[3]}\n  > ${code.split('\n')[Number(place[1]) - 1]?.trim() ?? ''}`
    : reasonOf(error);
  return new RmError(
    'SHADER_COMPILE',
    `program '${key}' does not compile: ${reason}`,
    'Correct the WGSL. If the kernel is part of rm-engine, please report this with: rm-engine doctor --json',
    { cause: error },
  );
}
