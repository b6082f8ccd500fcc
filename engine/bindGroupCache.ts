/** The range of a buffer that a dispatch binds. */
interface BoundRange {
  readonly buffer: { readonly id: number };
  readonly byteOffset: number;
  readonly byteLength: number;
}

interface Entry {
  readonly program: number;
  /** Buffer id, offset and length of every tensor in turn. */
  readonly bindings: readonly number[];
  readonly group: GPUBindGroup;
}

/**
 * Caches bind groups by program and bound ranges. Every dispatch looks one up, so no key string is built: a hash of the
 * numbers selects the few entries to compare.
 */
export class BindGroupCache {
  readonly #entries = new Map<number, Entry[]>();
  #size = 0;

  constructor(private readonly capacity: number) {}

  get(program: number, tensors: readonly BoundRange[]): GPUBindGroup | undefined {
    const entries = this.#entries.get(hash(program, tensors));
    if (!entries) return undefined;
    for (const entry of entries) {
      if (entry.program === program && matches(entry.bindings, tensors)) return entry.group;
    }
    return undefined;
  }

  /** Adds a bind group; a full cache is emptied first. */
  set(program: number, tensors: readonly BoundRange[], group: GPUBindGroup): void {
    if (this.#size >= this.capacity) this.clear();
    const key = hash(program, tensors);
    const bindings = tensors.flatMap(({ buffer, byteOffset, byteLength }) => [
      buffer.id,
      byteOffset,
      byteLength,
    ]);
    const entry = { program, bindings, group };
    const entries = this.#entries.get(key);
    if (entries) entries.push(entry);
    else this.#entries.set(key, [entry]);
    this.#size++;
  }

  clear(): void {
    this.#entries.clear();
    this.#size = 0;
  }
}

/** 32-bit polynomial hash. */
function hash(program: number, tensors: readonly BoundRange[]): number {
  let h = program;
  for (const { buffer, byteOffset, byteLength } of tensors) {
    h = Math.imul(h, 0x01000193) ^ buffer.id;
    h = Math.imul(h, 0x01000193) ^ byteOffset;
    h = Math.imul(h, 0x01000193) ^ byteLength;
  }
  return h;
}

function matches(bindings: readonly number[], tensors: readonly BoundRange[]): boolean {
  if (bindings.length !== 3 * tensors.length) return false;
  for (let i = 0; i < tensors.length; i++) {
    const { buffer, byteOffset, byteLength } = tensors[i]!;
    if (bindings[3 * i] !== buffer.id) return false;
    if (bindings[3 * i + 1] !== byteOffset || bindings[3 * i + 2] !== byteLength) return false;
  }
  return true;
}
