import { byteSize, type DType } from '../../engine/index.js';
import { fusedExpert } from '../checkpoint/fusedExperts.js';
import type { TensorSource } from '../checkpoint/safetensorsWriter.js';

const OF_EXPERT = /^(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)$/;

/** The parts of each expert, and the name of the tensor of all. */
interface Group {
  readonly name: string;
  readonly experts: TensorSource[][];
}

/**
 * Puts the matrices and biases of all experts together as gpt-oss stores them (checkpoint/fusedExperts.ts), each where its first
 * part stands. Other tensors pass through.
 */
export function withFusedExperts(tensors: Iterable<TensorSource>): TensorSource[] {
  const groups = new Map<string, Group>();
  const order: (TensorSource | Group)[] = [];
  for (const tensor of tensors) {
    const [, at, expert, part, kind] = OF_EXPERT.exec(tensor.name) ?? [];
    if (at === undefined) {
      order.push(tensor);
      continue;
    }
    const name = `${at}.${part === 'down' ? 'down' : 'gate_up'}_proj${kind === 'bias' ? '_bias' : ''}`;
    let group = groups.get(name);
    if (!group) {
      group = { name, experts: [] };
      groups.set(name, group);
      order.push(group);
    }
    group.experts[Number(expert)] ??= [];
    group.experts[Number(expert)]![part === 'up' ? 1 : 0] = tensor;
  }
  return order.map(item => ('experts' in item ? fusedTensor(item) : item));
}

function fusedTensor({ name, experts }: Group): TensorSource {
  const [first, ...others] = experts[0]!;
  const [out = 0, ...inner] = first!.shape;
  const dtype = first!.dtype as DType;
  return {
    ...{ name, dtype },
    shape: [experts.length, ...inner, out * (1 + others.length)],
    async *bytes() {
      for (const parts of experts) {
        const bytes: Uint8Array[] = [];
        for (const part of parts) bytes.push(await collected(part));
        yield fusedExpert(bytes, byteSize(dtype), inner[0] ?? 1);
      }
    },
  };
}

async function collected(tensor: TensorSource): Promise<Uint8Array> {
  const bytes = await tensor.bytes();
  if (bytes instanceof Uint8Array) return bytes;
  const pieces: Uint8Array[] = [];
  for await (const piece of bytes) pieces.push(piece);
  return Buffer.concat(pieces);
}
