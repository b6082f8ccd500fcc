import { elementCount } from '../../engine/index.js';
import { type Architecture, expectedTensors, keepLayers } from '../architecture/architecture.js';
import { storedCheckpoint } from '../checkpoint/inDtype.js';
import { GgufCheckpoint } from '../gguf/checkpoint.js';
import { familyOf } from '../gguf/config.js';
import { typeOfDtype, type WrittenType } from '../gguf/encode.js';
import type { GgufFamily } from '../gguf/family.js';
import { holdsRopeFactors } from '../gguf/familyParts.js';
import type { GgufTensor } from '../gguf/header.js';
import { ggufLayerOf, ggufName, huggingFaceNames, isConvolution } from '../gguf/names.js';
import { type GgmlType, ggmlType } from '../gguf/tensorTypes.js';
import type { GgufTensorSource, WrittenMetadata } from '../gguf/writer.js';
import { describeAsGguf, ggufFamilyOf } from './ggufConfigMetadata.js';
import { prunedMetadata } from './ggufPrunedMetadata.js';
import { checkReadBack } from './ggufReadBack.js';
import type { ModelToWrite, WriteModelOptions } from './modelToWrite.js';

/** Where a tensor's bytes come from: copied from a GGUF file, encoded from checkpoint tensors, or computed. */
type Origin =
  | { readonly copy: GgufTensor }
  | { readonly encode: readonly string[]; readonly type: WrittenType }
  | { readonly bytes: GgufTensorSource['bytes'] };

/** A tensor to write. */
export interface PlannedTensor {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  readonly origin: Origin;
}

/** The content of a GGUF file to write, without the tensors' bytes. */
interface GgufPlan {
  readonly family: GgufFamily;
  readonly metadata: WrittenMetadata;
  readonly tensors: readonly PlannedTensor[];
}

/** The model to write; planning needs no device. */
export type PlannedModel = Omit<ModelToWrite, 'device'>;

const parameterCount = (arch: Architecture): number =>
  expectedTensors(arch).reduce((sum, { shape }) => sum + elementCount(shape), 0);

/**
 * Chooses a tensor's stored type. llama.cpp needs vectors and convolutions in f32, and its converter keeps routers in f32; rows that are not
 * whole Q8_0 blocks become F16.
 */
function writtenType(
  name: string,
  shape: readonly number[],
  own: WrittenType,
  requested: WrittenType | undefined,
): WrittenType {
  if (shape.length === 1 || isConvolution(name) || name.endsWith('.ffn_gate_inp.weight')) return 'F32';
  const type = requested ?? own;
  return type === 'Q8_0' && shape.at(-1)! % 32 !== 0 ? 'F16' : type;
}

function ggufShape(name: string, shape: readonly number[], experts: number): readonly number[] {
  if (isConvolution(name)) return [shape[0]!, ...shape.slice(2)];
  return experts === 1 ? shape : [experts, ...shape];
}

/** Plans a tensor encoded from one checkpoint tensor, or from the matrices of all experts. */
function encoded(
  { checkpoint }: PlannedModel,
  name: string,
  huggingFace: readonly string[],
  requested: WrittenType | undefined,
): PlannedTensor {
  const { dtype, shape } = checkpoint.info(huggingFace[0]!);
  const type = writtenType(name, shape, typeOfDtype(dtype), requested);
  return {
    name,
    type: ggmlType(type),
    shape: ggufShape(name, shape, huggingFace.length),
    origin: { encode: huggingFace, type },
  };
}

/** Plans a file made from another GGUF file: untouched tensors are copied byte for byte. */
function fromGguf(
  model: PlannedModel,
  { file }: GgufCheckpoint,
  { dtype: changed, type: requested = changed && typeOfDtype(changed) }: WriteModelOptions,
): GgufPlan {
  const { keep, replacements, arch } = model;
  const family = familyOf(file);
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  const tensors: PlannedTensor[] = [];
  for (const tensor of file.tensors) {
    const layer = ggufLayerOf(tensor.name);
    const index = layer && newIndex.get(layer.layer);
    if (layer && index === undefined) continue;
    const name = layer ? layer.renumbered(index!) : tensor.name;
    const huggingFace = huggingFaceNames(family, tensor.name, tensor.shape);
    const replaced = huggingFace.some(part => replacements.has(part));
    const untouched = !replaced && !changed && (tensor.shape.length === 1 || !requested);
    tensors.push(
      untouched || holdsRopeFactors(tensor.name)
        ? { name, type: tensor.type, shape: tensor.shape, origin: { copy: tensor } }
        : encoded(model, name, huggingFace, requested),
    );
  }
  const metadata = prunedMetadata(file, keep, parameterCount(keepLayers(arch, keep)));
  return { family, metadata, tensors };
}

async function fromFolder(model: PlannedModel, { type: requested }: WriteModelOptions): Promise<GgufPlan> {
  const { source, arch, keep } = model;
  const written = keepLayers(arch, keep);
  const family = ggufFamilyOf(source, written);
  const { metadata, extraTensors } = await describeAsGguf(source, family, written, parameterCount(written));
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  // Only tensors that the model uses: GGUF has no names for others.
  const parts = new Map<string, string[]>();
  for (const { name: huggingFace } of expectedTensors(written)) {
    const old = ggufName(family, arch.tensorNames, huggingFace)!;
    const layer = ggufLayerOf(old);
    const name = layer ? layer.renumbered(newIndex.get(layer.layer)!) : old;
    parts.set(name, [...(parts.get(name) ?? []), huggingFace]);
  }
  if (family.needsOutput && arch.tiedEmbeddings) parts.set('output.weight', [arch.tensorNames.embedding]);
  return {
    family,
    metadata,
    tensors: [
      ...extraTensors.map(({ bytes, ...tensor }) => ({ ...tensor, origin: { bytes } })),
      ...[...parts].map(([name, huggingFace]) => encoded(model, name, huggingFace, requested)),
    ],
  };
}

/**
 * Plans a GGUF file of a model, and checks that reading it gives the same model.
 *
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for settings that GGUF cannot express.
 */
export async function planGguf(model: PlannedModel, options: WriteModelOptions = {}): Promise<GgufPlan> {
  const stored = storedCheckpoint(model.checkpoint);
  const plan =
    stored instanceof GgufCheckpoint ? fromGguf(model, stored, options) : await fromFolder(model, options);
  const bytesOf = async (name: string): Promise<Uint8Array> => {
    const { origin } = plan.tensors.find(tensor => tensor.name === name)!;
    if ('bytes' in origin) return (await origin.bytes()) as Uint8Array;
    const { begin, end } = (origin as { copy: GgufTensor }).copy;
    return (stored as GgufCheckpoint).file.read(begin, end - begin);
  };
  const contents = { path: model.source.path, metadata: plan.metadata, tensors: plan.tensors, bytesOf };
  await checkReadBack(contents, keepLayers(model.arch, model.keep), model.source.path);
  return plan;
}
