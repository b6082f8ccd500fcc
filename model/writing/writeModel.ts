import { mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { isComputedBuffer } from '../architecture/computedBuffers.js';
import { densePieces, storedPieces } from '../checkpoint/denseTensor.js';
import { type TensorSource, writeSafetensors } from '../checkpoint/safetensorsWriter.js';
import { exactJsonText } from '../files/exactJson.js';
import { isGgufPath } from '../files/ggufPath.js';
import { copyOutputFile, outputError, writeOutputFile } from '../files/outputError.js';
import { ggufTexts } from '../gguf/source.js';
import { withFusedExperts } from './fusedTensors.js';
import { type PlannedModel, planGguf } from './ggufPlan.js';
import { isCompanion, isCompanionFolder } from './modelKinds.js';
import { type ModelToWrite, type WriteModelOptions, writtenConfig } from './modelToWrite.js';
import { replacedBytes } from './replacement.js';
import { writeGgufModel } from './writeGguf.js';

/**
 * Writes a model to a file if `to` ends in .gguf, else to a folder. If the form stays the same, untouched tensors are
 * copied byte for byte. Cuts the configuration to the kept layers and copies the other files that belong to the model.
 *
 * @param to an empty folder, or the file.
 * @throws RmError OUTPUT_FAILED; UNSUPPORTED_FAMILY, CONFIG_INVALID for settings that the other form cannot express.
 */
export function writeModel(model: ModelToWrite, to: string, options: WriteModelOptions = {}): Promise<void> {
  return isGgufPath(to) ? writeGgufModel(model, to, options) : writeModelFolder(model, to, options);
}

/**
 * Checks early, before any work, that a model can be written in the form of `to`.
 *
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for settings that this form cannot express.
 */
export async function checkWritable(model: PlannedModel, to: string): Promise<void> {
  if (isGgufPath(to)) await planGguf(model);
}

async function writeModelFolder(model: ModelToWrite, to: string, options: WriteModelOptions): Promise<void> {
  const { source } = model;
  const tensors = writtenTensors(model);
  await writeSafetensors(to, model.arch.experts?.fused ? withFusedExperts(tensors) : tensors, {
    ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
    onProgress: (done, total) => options.onProgress?.({ phase: 'write', done, total, unit: 'bytes' }),
  });
  const config = await writtenConfig(model, options.dtype);
  await writeOutputFile(join(to, 'config.json'), `${exactJsonText(config)}\n`);
  if (source.folder !== null) return copyCompanions(source.folder, to);
  for (const name of ggufTexts) {
    const text = name === 'config.json' ? undefined : await source.text(name);
    if (text !== undefined) await writeOutputFile(join(to, name), text);
  }
}

/** Lists the tensors to write: renumbers names "…layers.12.…" and drops tensors of removed layers. */
function* writtenTensors(model: ModelToWrite): Generator<TensorSource> {
  const { checkpoint, arch, keep, replacements, device } = model;
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  const used = new Set(expectedTensors(arch).map(({ name }) => name));
  for (const name of checkpoint.names) {
    if (isComputedBuffer(name) && !used.has(name)) continue;
    // A copy of the embedding that would no longer be one.
    if (name === arch.tensorNames.ownHead && !used.has(name) && replacements.has(arch.tensorNames.embedding))
      continue;
    const layer = layerOf(name, arch);
    if (layer && !newIndex.has(layer.index)) continue;
    const written = layer ? `${layer.prefix}${newIndex.get(layer.index)}${layer.rest}` : name;
    const opaque = checkpoint.opaque(name);
    if (opaque) {
      const { storage, shape, byteLength } = opaque;
      yield {
        name: written,
        dtype: { storage },
        shape,
        bytes: () => storedPieces(checkpoint, name, byteLength),
      };
      continue;
    }
    const { dtype, shape } = checkpoint.info(name);
    const replacement = replacements.get(name);
    yield {
      name: written,
      dtype,
      shape,
      bytes: () =>
        replacement ? replacedBytes(replacement, model, name) : densePieces(device, checkpoint, name),
    };
  }
}

/** Splits a layer's tensor name at the layer number, which follows the architecture's common prefix. */
function layerOf(
  name: string,
  arch: Architecture,
): { prefix: string; index: number; rest: string } | undefined {
  const prefix = arch.tensorNames.layerPrefix;
  const match = name.startsWith(prefix) && /^(\d+)(\..*)$/.exec(name.slice(prefix.length));
  return match ? { prefix, index: Number(match[1]), rest: match[2]! } : undefined;
}

/** Copies the files that belong to the model beside config.json and weights; skips broken links and what is no file. */
async function copyCompanions(from: string, to: string): Promise<void> {
  const names = await readdir(from);
  const within = names.filter(isCompanionFolder).map(async folder => {
    const inner = await readdir(join(from, folder)).catch(() => []);
    return inner.map(name => `${folder}/${name}`);
  });
  for (const name of [...names, ...(await Promise.all(within)).flat()]) {
    if (name === 'config.json' || !isCompanion(name)) continue;
    const source = join(from, name);
    if (!(await stat(source).catch(() => undefined))?.isFile()) continue;
    // A model that was pruned before has its base model's card beside its own: shift each card by one.
    const target = join(to, name.replace(/^README((\.base)*)\.md$/, 'README.base$1.md'));
    await mkdir(dirname(target), { recursive: true }).catch(error =>
      Promise.reject(outputError(error, target)),
    );
    await copyOutputFile(source, target);
  }
}
