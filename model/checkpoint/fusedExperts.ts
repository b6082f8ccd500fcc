import { asBytes, asU16, asU32, byteSize, RmError } from '../../engine/index.js';
import { type Checkpoint, type OpaqueTensor, requireRange, type TensorInfo } from './checkpoint.js';
import { filled } from './fileReads.js';

/** A matrix or bias of one expert within the tensor of all: every `stride`-th line, from `first` on. */
export interface ExpertPlace {
  readonly expert: number;
  readonly first: number;
  readonly stride: number;
}

interface ExpertPart extends ExpertPlace {
  readonly fused: string;
}

/** Parts of a fused tensor by its ending. */
const endings: Readonly<Record<string, readonly string[]>> = {
  gate_up_proj: ['gate_proj.weight', 'up_proj.weight'],
  down_proj: ['down_proj.weight'],
  gate_up_proj_bias: ['gate_proj.bias', 'up_proj.bias'],
  down_proj_bias: ['down_proj.bias'],
};

const FUSED = /^(.*\.mlp\.experts)\.(\w+)$/;

/** Splits the name of a tensor of all experts; undefined for others. */
export function fusedParts(
  name: string,
): { readonly at: string; readonly parts: readonly string[] } | undefined {
  const [, at = '', ending = ''] = FUSED.exec(name) ?? [];
  const parts = Object.hasOwn(endings, ending) ? endings[ending] : undefined;
  return parts && { at, parts };
}

/** The parts of a fused tensor of so many experts, expert by expert, each with a name of its own. */
export const partsOfExperts = (
  { at, parts }: { readonly at: string; readonly parts: readonly string[] },
  count: number,
): (ExpertPlace & { readonly own: string })[] =>
  Array.from({ length: count }, (_, expert) =>
    parts.map((part, first) => ({ own: `${at}.${expert}.${part}`, expert, first, stride: parts.length })),
  ).flat();

/**
 * Presents tensors of all experts as gpt-oss stores them, [experts, in, out] with gate and up in turn, and biases [experts,
 * out], as a matrix [out, in] and a bias for each expert: `experts.3.gate_proj.weight`. Other tensors pass through.
 */
export class SplitExperts implements Checkpoint {
  readonly path: string;
  readonly totalBytes: number;
  readonly names: readonly string[];
  readonly #parts = new Map<string, ExpertPart>();
  /** The matrices of the expert that was read last, by name. */
  #last = new Map<string, Uint8Array>();

  /** @param stored closed by `close`. */
  constructor(private readonly stored: Checkpoint) {
    this.path = stored.path;
    this.totalBytes = stored.totalBytes;
    this.names = stored.names.flatMap(name => {
      const fused = stored.opaque(name) ? undefined : fusedParts(name);
      if (!fused) return [name];
      return partsOfExperts(fused, stored.info(name).shape[0] ?? 0).map(({ own, ...place }) => {
        this.#parts.set(own, { fused: name, ...place });
        return own;
      });
    });
  }

  has(name: string): boolean {
    return this.#parts.has(name) || (this.stored.has(name) && !fusedParts(name));
  }

  opaque(name: string): OpaqueTensor | undefined {
    return this.#parts.has(name) ? undefined : this.stored.opaque(name);
  }

  info(name: string): TensorInfo {
    const part = this.#parts.get(name);
    if (!part) return this.stored.info(name);
    const { dtype, shape } = this.stored.info(part.fused);
    const [, ...inner] = shape;
    const own = [inner.at(-1)! / part.stride, ...inner.slice(0, -1)];
    const isBias = name.endsWith('.bias');
    if (own.length !== (isBias ? 1 : 2) || own.some(size => !Number.isInteger(size))) {
      throw new RmError(
        'CHECKPOINT_CORRUPT',
        `${this.path}: tensor ${part.fused} has shape [${shape}], which are no ${isBias ? 'biases' : 'matrices'} of experts`,
        'Download the model again.',
      );
    }
    const byteLength = byteSize(dtype) * own.reduce((product, size) => product * size, 1);
    return { name, dtype, shape: own, byteLength };
  }

  read(name: string): Promise<Uint8Array> {
    return this.#parts.has(name)
      ? this.readRange(name, 0, this.info(name).byteLength)
      : this.stored.read(name);
  }

  readRange(name: string, byteStart: number, byteLength: number): Promise<Uint8Array> {
    return filled(byteLength, target => this.readInto(name, byteStart, target));
  }

  async readInto(name: string, byteStart: number, target: Uint8Array): Promise<void> {
    const part = this.#parts.get(name);
    if (!part) return await this.stored.readInto(name, byteStart, target);
    requireRange(name, this.info(name).byteLength, byteStart, target.byteLength);
    const bytes = this.#last.get(name) ?? (await this.#readExpert(name, part));
    target.set(bytes.subarray(byteStart, byteStart + target.byteLength));
  }

  /** Reads one expert of a fused tensor, and keeps its parts until another is read. */
  async #readExpert(name: string, { fused, expert }: ExpertPart): Promise<Uint8Array> {
    const { dtype, shape } = this.stored.info(fused);
    const out = shape.at(-1)!;
    const rows = shape.length === 3 ? shape[1]! : 1;
    const size = byteSize(dtype);
    const bytes = await this.stored.readRange(fused, expert * rows * out * size, rows * out * size);
    const { at, parts } = fusedParts(fused)!;
    const split = parts.map((part, first) => {
      const values = turned(bytes, size, { rows, columns: out, first, stride: parts.length });
      return [`${at}.${expert}.${part}`, values] as const;
    });
    this.#last = new Map(split);
    return this.#last.get(name)!;
  }

  close(): Promise<void> {
    return this.stored.close();
  }
}

/** Some columns of a matrix, which become rows. */
interface Columns {
  readonly rows: number;
  readonly columns: number;
  readonly first: number;
  readonly stride: number;
}

/** Numbers of so many bytes as words. */
const wordsOf = (bytes: Uint8Array, size: number): Uint16Array | Uint32Array =>
  size === 2 ? asU16(bytes) : asU32(bytes);

const emptyWords = (count: number, size: number): Uint16Array | Uint32Array =>
  size === 2 ? new Uint16Array(count) : new Uint32Array(count);

/** Every `stride`-th column of a matrix, each as a row. */
function turned(bytes: Uint8Array, size: number, { rows, columns, first, stride }: Columns): Uint8Array {
  const from = wordsOf(bytes, size);
  const out = emptyWords((rows * columns) / stride, size);
  for (let c = first, at = 0; c < columns; c += stride) {
    for (let r = 0; r < rows; r++) out[at++] = from[r * columns + c]!;
  }
  return asBytes(out);
}

/** The bytes of one expert in a fused tensor, from its parts [out, in], each as a row. */
export function fusedExpert(parts: readonly Uint8Array[], size: number, rows: number): Uint8Array {
  const from = parts.map(bytes => wordsOf(bytes, size));
  const columns = from[0]!.length / rows;
  const out = emptyWords(parts.length * rows * columns, size);
  for (let r = 0, at = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) for (const part of from) out[at++] = part[c * rows + r]!;
  }
  return asBytes(out);
}
