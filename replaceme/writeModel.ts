import { mkdir, readdir, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../engine/index.js';
import type { Progress } from '../engine/progress.js';
import { PIECE } from '../engine/transfer.js';
import { type Architecture, expectedTensors } from '../model/architecture.js';
import type { Checkpoint } from '../model/checkpoint/checkpoint.js';
import { configInDtype, type WeightDtype } from '../model/checkpoint/inDtype.js';
import { copyOutputFile, outputError, writeOutputFile } from '../model/checkpoint/outputFolder.js';
import { type TensorSource, writeSafetensors } from '../model/checkpoint/safetensorsWriter.js';
import { exactJsonText, parseExactJson } from '../model/exactJson.js';
import { pruneConfig } from '../model/families/index.js';
import { isRecord } from '../model/jsonFile.js';
import { type ModelSource, requiredTextOf } from '../model/modelSource.js';
import { type Replacement, replacedBytes } from './replacement.js';

/** Tensors of the checkpoint that get other values, of the same shape and dtype. */
export type Replacements = ReadonlyMap<string, Replacement>;

/** Weights in any format: the unpruned ones must not travel with the pruned model. */
const weightFile =
  /\.(safetensors|safetensors\.index\.json|bin|bin\.index\.json|pt|pth|ckpt|gguf|h5|msgpack|npz|onnx|onnx_data|ot)$/;

/**
 * Writes a model folder with only the layers `keep`: weights (untouched tensors byte for byte, `replacements` from the
 * device or the host), config.json with every per-layer list cut, all other files copied.
 *
 * @param to an empty folder (see withOutputFolder).
 * @throws RmError OUTPUT_FAILED.
 */
export async function writePrunedModel(
  from: ModelSource,
  to: string,
  checkpoint: Checkpoint,
  arch: Architecture,
  keep: readonly number[],
  replacements: Replacements,
  options: { maxShardBytes?: number; dtype?: WeightDtype; onProgress?: Progress } = {},
): Promise<void> {
  await writeSafetensors(to, prunedTensors(checkpoint, arch, keep, replacements), {
    ...(options.maxShardBytes !== undefined && { maxShardBytes: options.maxShardBytes }),
    onProgress: (done, total) => options.onProgress?.({ phase: 'write', done, total, unit: 'bytes' }),
  });
  const config = parseExactJson(await requiredTextOf(from, 'config.json'), from.nameOf('config.json'));
  if (!isRecord(config))
    throw new RmError('CONFIG_INVALID', `${from.nameOf('config.json')} is no object`, 'Download it again.');
  await writeOutputFile(
    join(to, 'config.json'),
    `${exactJsonText(configInDtype(pruneConfig(config, keep), options.dtype))}\n`,
  );
  if (from.folder !== null) await copyOtherFiles(from.folder, to);
}

/** What old checkpoints hold though it is computed, not learnt; loaders ignore it or complain. */
const computedBuffer = /\.(rotary_emb\.inv_freq|(attention|attn)\.(bias|masked_bias)|position_ids)$/;

/** Names "…layers.12.…" get the layer's new number; tensors of removed layers are left out. */
function* prunedTensors(
  checkpoint: Checkpoint,
  arch: Architecture,
  keep: readonly number[],
  replacements: Replacements,
): Generator<TensorSource> {
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
      bytes: () => (replacement ? replacedBytes(replacement, checkpoint, name) : piecesOf(checkpoint, name)),
    };
  }
}

/** A tensor of any size, so that host memory stays small. */
async function* piecesOf(checkpoint: Checkpoint, name: string): AsyncGenerator<Uint8Array> {
  const { byteLength } = checkpoint.info(name);
  for (let start = 0; start < byteLength; start += PIECE) {
    yield await checkpoint.readRange(name, start, Math.min(PIECE, byteLength - start));
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
