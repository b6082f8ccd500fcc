import { elementCount } from '../../engine/index.js';
import { type Architecture, expectedTensors, keepLayers } from '../architecture/architecture.js';
import { storedCheckpoint } from '../checkpoint/inDtype.js';
import { GgufCheckpoint } from '../gguf/checkpoint.js';
import { familyOf } from '../gguf/config.js';
import { typeOfDtype, type WrittenType } from '../gguf/encode.js';
import { holdsRopeFactors } from '../gguf/families.js';
import type { GgufFamily } from '../gguf/family.js';
import type { GgufTensor } from '../gguf/header.js';
import { ggufLayerOf, ggufName, huggingFaceNames } from '../gguf/names.js';
import { type GgmlType, ggmlType } from '../gguf/tensorTypes.js';
import type { GgufTensorSource, WrittenMetadata } from '../gguf/writer.js';
import { describeAsGguf, ggufFamilyOf } from './ggufConfigMetadata.js';
import { prunedMetadata } from './ggufPrunedMetadata.js';
import { checkReadBack } from './ggufReadBack.js';
import type { ModelToWrite, WriteModelOptions } from './modelToWrite.js';

/** Of where a tensor's bytes come: as they lie in a GGUF file, of the checkpoint's tensors, or made here. */
type Origin =
  | { readonly copy: GgufTensor }
  | { readonly encode: readonly string[]; readonly type: WrittenType }
  | { readonly bytes: GgufTensorSource['bytes'] };

/** A tensor that is to be written. */
export interface PlannedTensor {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  readonly origin: Origin;
}

/** All of a GGUF file that is to be written, but for the tensors' bytes. */
export interface GgufPlan {
  readonly family: GgufFamily;
  readonly metadata: WrittenMetadata;
  readonly tensors: readonly PlannedTensor[];
}

/** What is written, without what it takes to make the bytes. */
export type PlannedModel = Omit<ModelToWrite, 'device'>;

const parameterCount = (arch: Architecture): number =>
  expectedTensors(arch).reduce((sum, { shape }) => sum + elementCount(shape), 0);

/**
 * llama.cpp computes with vectors in f32 only, and its converter keeps routers so; rows that are no whole blocks stay as
 * they are.
 */
function writtenType(
  name: string,
  shape: readonly number[],
  own: WrittenType,
  wanted: WrittenType | undefined,
): WrittenType {
  if (shape.length === 1 || name.endsWith('.ffn_gate_inp.weight')) return 'F32';
  const type = wanted ?? own;
  return type === 'Q8_0' && shape.at(-1)! % 32 !== 0 ? 'F16' : type;
}

/** A tensor made of the checkpoint's: of one, or of the matrices of all experts. */
function encoded(
  { checkpoint }: PlannedModel,
  name: string,
  huggingFace: readonly string[],
  wanted: WrittenType | undefined,
): PlannedTensor {
  const { dtype, shape } = checkpoint.info(huggingFace[0]!);
  const type = writtenType(name, shape, typeOfDtype(dtype), wanted);
  return {
    name,
    type: ggmlType(type),
    shape: huggingFace.length === 1 ? shape : [huggingFace.length, ...shape],
    origin: { encode: huggingFace, type },
  };
}

/** What goes into a file that is made of another GGUF file: untouched tensors as they are, byte for byte. */
function fromGguf(
  model: PlannedModel,
  { file }: GgufCheckpoint,
  { dtype: changed, type: wanted = changed && typeOfDtype(changed) }: WriteModelOptions,
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
    const untouched = !replaced && !changed && (tensor.shape.length === 1 || !wanted);
    tensors.push(
      untouched || holdsRopeFactors(tensor.name)
        ? { name, type: tensor.type, shape: tensor.shape, origin: { copy: tensor } }
        : encoded(model, name, huggingFace, wanted),
    );
  }
  const metadata = prunedMetadata(file, keep, parameterCount(keepLayers(arch, keep)));
  return { family, metadata, tensors };
}

async function fromFolder(model: PlannedModel, { type: wanted }: WriteModelOptions): Promise<GgufPlan> {
  const { source, arch, keep } = model;
  const written = keepLayers(arch, keep);
  const family = ggufFamilyOf(source, written);
  const { metadata, extraTensors } = await describeAsGguf(source, family, written, parameterCount(written));
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  // Only what the model uses: GGUF has no names for anything else.
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
      ...[...parts].map(([name, huggingFace]) => encoded(model, name, huggingFace, wanted)),
    ],
  };
}

/**
 * What a GGUF file of a model is made of, checked: read again it is the same model.
 *
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for what GGUF cannot say.
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
