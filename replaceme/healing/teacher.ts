import { ensure, PIECE } from '../../engine/index.js';
import {
  type Architecture,
  type Checkpoint,
  type Model,
  type ReuseTensor,
  readArchitecture,
  sameTokenizer,
  type TensorInfo,
} from '../../model/index.js';

/**
 * Checks that the model in folder `teacher` can teach the model in `folder`: it must predict the same tokens.
 *
 * @throws RmError INVALID_ARGUMENT where vocabulary, tokenizer or width differ; as readArchitecture.
 */
export async function checkTeacher(folder: string, arch: Architecture, teacher: string): Promise<void> {
  const other = await readArchitecture(teacher);
  const fix = 'Give the model that this one was pruned from as `teacher`.';
  ensure(
    other.vocab === arch.vocab,
    `${teacher}: has a vocabulary of ${other.vocab} tokens, the model to heal one of ${arch.vocab}`,
    fix,
  );
  ensure(
    other.hidden === arch.hidden,
    `${teacher}: has hidden states of ${other.hidden} numbers, the model to heal of ${arch.hidden}`,
    fix,
  );
  ensure(
    await sameTokenizer(folder, teacher),
    `${teacher}: its tokenizer differs from that of the model to heal`,
    fix,
  );
}

async function sameBytes(a: Checkpoint, nameA: string, b: Checkpoint, nameB: string): Promise<boolean> {
  if (!b.has(nameB)) return false;
  const [infoA, infoB] = [a.info(nameA), b.info(nameB)];
  const form = ({ dtype, shape, blocks, byteLength }: TensorInfo) =>
    JSON.stringify([dtype, shape, blocks ?? null, byteLength]);
  if (form(infoA) !== form(infoB)) return false;
  for (let start = 0; start < infoA.byteLength; start += PIECE) {
    const length = Math.min(PIECE, infoA.byteLength - start);
    const [left, right] = [await a.readRange(nameA, start, length), await b.readRange(nameB, start, length)];
    if (Buffer.compare(left, right) !== 0) return false;
  }
  return true;
}

/**
 * Lets another model use the teacher's tensors wherever both have the same bytes: the device holds them once, and layers
 * with shared tensors run once for both.
 *
 * @param keptLayers for each layer of the other model the teacher's layer that it may come from.
 */
export function tensorsOfTeacher(
  teacher: Model,
  teacherCheckpoint: Checkpoint,
  checkpoint: Checkpoint,
  keptLayers: readonly number[],
): ReuseTensor {
  const { tensorNames } = teacher.arch;
  return async (place, name) => {
    const layer = place.layer === undefined ? undefined : (keptLayers[place.layer] ?? -1);
    const names = (layer === undefined ? tensorNames : tensorNames.layers[layer]) as unknown as
      | Readonly<Record<string, unknown>>
      | undefined;
    const teacherName = names?.[place.key];
    if (typeof teacherName !== 'string') return undefined;
    if (!(await sameBytes(checkpoint, name, teacherCheckpoint, teacherName))) return undefined;
    const weights = layer === undefined ? teacher.weights : teacher.weights.layers[layer];
    return (weights as unknown as Readonly<Record<string, Model['weights']['embedding']>>)[place.key];
  };
}
