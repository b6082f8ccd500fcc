import { elementCount } from '../../engine/dtype.js';
import { type Architecture, expectedTensors } from '../architecture.js';
import { densePieces } from '../checkpoint/denseTensor.js';
import { storedCheckpoint } from '../checkpoint/inDtype.js';
import { plainNumbers } from '../exactJson.js';
import { architectureFromConfig } from '../families/index.js';
import { type ModelToWrite, type WriteModelOptions, writtenConfig } from '../modelToWrite.js';
import { replacedBytes } from '../replacement.js';
import { GgufCheckpoint } from './checkpoint.js';
import { familyOf } from './config.js';
import { describeAsGguf, ggufFamilyOf } from './configMetadata.js';
import { encodeAs, typeOfDtype, type WrittenType } from './encode.js';
import { type GgufFamily, ggufLayerOf, ggufName, huggingFaceName, ROPE_FACTORS } from './families.js';
import type { GgufTensor } from './header.js';
import { prunedMetadata } from './prunedMetadata.js';
import { reorderedRows, rotaryHalfRow } from './rowOrder.js';
import { ggmlType } from './tensorTypes.js';
import { type GgufTensorSource, ggufTensorBytes, type WrittenMetadata, writeGgufFile } from './writer.js';

/** general.file_type: the type of most of the numbers. Source: llama.h (enum llama_ftype). */
const fileTypes: Readonly<Record<WrittenType, number>> = { F32: 0, F16: 1, Q8_0: 7, BF16: 32 };

const PIECE = 16 << 20;

/** Numbers of a model without the layers that go. */
const parameterCount = (arch: Architecture, keep: readonly number[]): number =>
  expectedTensors(arch)
    .filter(({ layer }) => layer === null || keep.includes(layer))
    .reduce((sum, { shape }) => sum + elementCount(shape), 0);

/** llama.cpp computes with vectors in f32 only; rows that are no whole blocks stay as they are. */
function writtenType(
  shape: readonly number[],
  own: WrittenType,
  wanted: WrittenType | undefined,
): WrittenType {
  if (shape.length === 1) return 'F32';
  const type = wanted ?? own;
  return type === 'Q8_0' && shape.at(-1)! % 32 !== 0 ? 'F16' : type;
}

/** Rows of a head that llama.cpp has in another order; 1 where it has not. */
function reorderedHead(family: GgufFamily, { headDim }: Architecture, name: string): number {
  return family.permuted && /^blk\.\d+\.attn_[qk]\.(weight|bias)$/.test(name) ? headDim : 1;
}

/** A tensor's numbers, from the source or in its place, in llama.cpp's order and type. */
function encodedTensor(
  model: ModelToWrite,
  [family, type]: readonly [GgufFamily, WrittenType],
  { huggingFace, name }: { huggingFace: string; name: string },
): GgufTensorSource {
  const { checkpoint, device, arch, replacements } = model;
  const { shape, dtype } = checkpoint.info(huggingFace);
  const headRows = reorderedHead(family, arch, name);
  const replacement = replacements.get(huggingFace);
  async function* bytes() {
    const rowBytes = (elementCount(shape) / shape[0]!) * (dtype === 'f32' ? 4 : 2);
    const pieces = replacement
      ? [await replacedBytes(replacement, model, huggingFace)]
      : densePieces(device, checkpoint, huggingFace, headRows);
    for await (const piece of pieces) {
      const ordered =
        headRows === 1 ? piece : reorderedRows(piece, rowBytes, row => rotaryHalfRow(row, headRows));
      // Encoding takes several times the room.
      const slice = Math.max(1, Math.floor(PIECE / rowBytes)) * rowBytes;
      for (let at = 0; at < ordered.byteLength; at += slice) {
        yield encodeAs(ordered.slice(at, at + slice), dtype, type);
      }
    }
  }
  return { name, type: ggmlType(type), shape, bytes };
}

async function* copied({ file }: GgufCheckpoint, { begin, end }: GgufTensor): AsyncGenerator<Uint8Array> {
  for (let at = begin; at < end; at += PIECE) yield await file.read(at, Math.min(PIECE, end - at));
}

/** What goes into a file that is made of another GGUF file: untouched tensors as they are, byte for byte. */
function fromGguf(
  model: ModelToWrite,
  checkpoint: GgufCheckpoint,
  { dtype: changed, type: wanted = changed && typeOfDtype(changed) }: WriteModelOptions,
) {
  const { keep, replacements, arch } = model;
  const family = familyOf(checkpoint.file);
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  const tensors: GgufTensorSource[] = [];
  for (const tensor of checkpoint.file.tensors) {
    const layer = ggufLayerOf(tensor.name);
    const index = layer && newIndex.get(layer.layer);
    if (layer && index === undefined) continue;
    const name = layer ? layer.renumbered(index!) : tensor.name;
    const huggingFace = huggingFaceName(family, tensor.name);
    const replaced = huggingFace !== undefined && replacements.has(huggingFace);
    const vector = tensor.shape.length === 1;
    if (
      tensor.name === ROPE_FACTORS ||
      huggingFace === undefined ||
      (!replaced && !changed && (vector || !wanted))
    ) {
      tensors.push({ name, type: tensor.type, shape: tensor.shape, bytes: () => copied(checkpoint, tensor) });
      continue;
    }
    const { dtype, shape } = model.checkpoint.info(huggingFace);
    const type = writtenType(shape, typeOfDtype(dtype), wanted);
    tensors.push(encodedTensor(model, [family, type], { huggingFace, name }));
  }
  return { metadata: prunedMetadata(checkpoint.file, keep, parameterCount(arch, keep)), tensors };
}

async function fromFolder(model: ModelToWrite, wanted: WrittenType | undefined) {
  const { source, checkpoint, arch, keep } = model;
  const config = plainNumbers(await writtenConfig(model)) as Record<string, unknown>;
  const written = architectureFromConfig(config, source.nameOf('config.json'));
  const family = ggufFamilyOf(source, written);
  const parameters = parameterCount(arch, keep);
  const { metadata, extraTensors } = await describeAsGguf(source, config, written, parameters);
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  const tensors = [...extraTensors];
  // Only what the model uses: GGUF has no names for anything else.
  for (const { name: huggingFace, layer } of expectedTensors(arch)) {
    if (layer !== null && !newIndex.has(layer)) continue;
    const old = ggufName(family, huggingFace);
    if (old === undefined) throw new Error(`no GGUF name for ${huggingFace}`);
    const name = layer === null ? old : ggufLayerOf(old)!.renumbered(newIndex.get(layer)!);
    const { dtype, shape } = checkpoint.info(huggingFace);
    const type = writtenType(shape, typeOfDtype(dtype), wanted);
    tensors.push(encodedTensor(model, [family, type], { huggingFace, name }));
  }
  return { metadata, tensors };
}

/**
 * Writes a GGUF file. From a GGUF file untouched tensors keep their type byte for byte (unless `type` asks for another),
 * and those with new values are stored as the device holds them: f16 where they were blocks. From a folder, matrices
 * keep their number type, vectors become F32, and the metadata are made of config.json and the tokenizer.
 *
 * @throws RmError OUTPUT_FAILED; UNSUPPORTED_FAMILY, CONFIG_INVALID for what GGUF cannot say.
 */
export async function writeGgufModel(
  model: ModelToWrite,
  to: string,
  options: WriteModelOptions,
): Promise<void> {
  const stored = storedCheckpoint(model.checkpoint);
  const { metadata, tensors } =
    stored instanceof GgufCheckpoint
      ? fromGguf(model, stored, options)
      : await fromFolder(model, options.type);
  const total = tensors.reduce((sum, tensor) => sum + ggufTensorBytes(tensor), 0);
  let done = 0;
  await writeGgufFile(to, withFileType(metadata, tensors), tensors, tensor => {
    done += ggufTensorBytes(tensor);
    options.onProgress?.({ phase: 'write', done, total, unit: 'bytes' });
  });
}

/** general.file_type as most of the bytes are; what no writer of ours makes is the source's own. */
function withFileType(metadata: WrittenMetadata, tensors: readonly GgufTensorSource[]): WrittenMetadata {
  const bytes = new Map<string, number>();
  for (const tensor of tensors) {
    bytes.set(tensor.type.name, (bytes.get(tensor.type.name) ?? 0) + ggufTensorBytes(tensor));
  }
  const [most] = [...bytes].sort((a, b) => b[1] - a[1])[0] ?? [];
  const value = fileTypes[most as WrittenType];
  if (value === undefined) return metadata;
  return new Map([...metadata, ['general.file_type', { type: 'u32', value }]]);
}
