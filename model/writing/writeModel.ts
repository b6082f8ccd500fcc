import { mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import { densePieces } from '../checkpoint/denseTensor.js';
import { configInDtype } from '../checkpoint/inDtype.js';
import { type TensorSource, writeSafetensors } from '../checkpoint/safetensorsWriter.js';
import { exactJsonText } from '../files/exactJson.js';
import { isGgufPath } from '../files/ggufPath.js';
import { copyOutputFile, outputError, writeOutputFile } from '../files/outputFolder.js';
import { ggufTexts } from '../gguf/source.js';
import { type PlannedModel, planGguf } from './ggufPlan.js';
import { type ModelToWrite, type WriteModelOptions, writtenConfig } from './modelToWrite.js';
import { replacedBytes } from './replacement.js';
import { writeGgufModel } from './writeGguf.js';

/** Weights in any format: the unpruned ones must not travel with the pruned model. */
const weightFile =
  /\.(safetensors|safetensors\.index\.json|bin|bin\.index\.json|pt|pth|ckpt|gguf|h5|msgpack|npz|onnx|onnx_data|ot)$/;

/**
 * Writes a model: into a file where `to` ends in .gguf, else into a folder. Untouched tensors are copied byte for byte
 * where the form stays, configuration and per-layer lists are cut, all else that belongs to the model comes with it.
 *
 * @param to an empty folder (see withOutputFolder), or the file.
 * @throws RmError OUTPUT_FAILED; UNSUPPORTED_FAMILY, CONFIG_INVALID for what the other form cannot say.
 */
export function writeModel(model: ModelToWrite, to: string, options: WriteModelOptions = {}): Promise<void> {
  return isGgufPath(to) ? writeGgufModel(model, to, options) : writeModelFolder(model, to, options);
}

/**
 * Checks what can be checked of a model that is to be written, before it is made.
 *
 * @throws RmError UNSUPPORTED_FAMILY, CONFIG_INVALID for what the form that `to` asks for cannot say.
 */
export async function checkWritable(model: PlannedModel, to: string): Promise<void> {
  if (isGgufPath(to)) await planGguf(model);
}

async function writeModelFolder(model: ModelToWrite, to: string, options: WriteModelOptions): Promise<void> {
  const { source } = model;
  await writeSafetensors(to, writtenTensors(model), {
    ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
    onProgress: (done, total) => options.onProgress?.({ phase: 'write', done, total, unit: 'bytes' }),
  });
  const config = configInDtype(await writtenConfig(model), options.dtype);
  await writeOutputFile(join(to, 'config.json'), `${exactJsonText(config)}\n`);
  if (source.folder !== null) return copyOtherFiles(source.folder, to);
  for (const name of ggufTexts) {
    const text = name === 'config.json' ? undefined : await source.text(name);
    if (text !== undefined) await writeOutputFile(join(to, name), text);
  }
}

/** What old checkpoints hold though it is computed, not learnt; loaders ignore it or complain. */
const computedBuffer = /\.(rotary_emb\.inv_freq|(attention|attn)\.(bias|masked_bias)|position_ids)$/;

/** Names "…layers.12.…" get the layer's new number; tensors of removed layers are left out. */
function* writtenTensors(model: ModelToWrite): Generator<TensorSource> {
  const { checkpoint, arch, keep, replacements, device } = model;
  const newIndex = new Map(keep.map((layer, i) => [layer, i]));
  const used = new Set(expectedTensors(arch).map(({ name }) => name));
  for (const name of checkpoint.names) {
    if (computedBuffer.test(name) && !used.has(name)) continue;
    const layer = layerOf(name, arch);
    if (layer && !newIndex.has(layer.index)) continue;
    // 0, 1, 2 ... as whole numbers, which old versions of transformers have stored and all count for themselves.
    if (name.endsWith('.position_ids')) continue;
    const { dtype, shape } = checkpoint.info(name);
    const replacement = replacements.get(name);
    yield {
      name: layer ? `${layer.prefix}${newIndex.get(layer.index)}${layer.rest}` : name,
      dtype,
      shape,
      bytes: () =>
        replacement ? replacedBytes(replacement, model, name) : densePieces(device, checkpoint, name),
    };
  }
}

/** Splits a per-layer tensor name at its layer number, by the prefix that the architecture's names share. */
function layerOf(
  name: string,
  arch: Architecture,
): { prefix: string; index: number; rest: string } | undefined {
  const prefix = arch.tensorNames.layerPrefix;
  const match = name.startsWith(prefix) && /^(\d+)(\..*)$/.exec(name.slice(prefix.length));
  return match ? { prefix, index: Number(match[1]), rest: match[2]! } : undefined;
}

/** Of the run that made the model that is pruned again. */
const reports = new Set(['report.json', 'report.html']);

/** Files as they are, symbolic links as what they point to; a link to nothing, and what is no file, is left out. */
async function copyOtherFiles(
  from: string,
  to: string,
  above: ReadonlySet<string> = new Set(),
): Promise<void> {
  const folders = new Set([...above, await realpath(from)]);
  for (const name of await readdir(from)) {
    if (name.startsWith('.') || name === 'config.json' || weightFile.test(name) || reports.has(name))
      continue;
    // The card of a model that was pruned before has a card of its base beside it: each moves one back.
    const [source, target] = [
      join(from, name),
      join(to, name.replace(/^README((\.base)*)\.md$/, 'README.base$1.md')),
    ];
    const found = await stat(source).catch(() => undefined);
    if (found?.isDirectory()) {
      // A link to a folder that it lies in has no end.
      if (folders.has(await realpath(source))) continue;
      await mkdir(target).catch(error => Promise.reject(outputError(error, target)));
      await copyOtherFiles(source, target, folders);
    } else if (found?.isFile()) {
      await copyOutputFile(source, target);
    }
  }
}
