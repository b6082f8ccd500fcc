import {
  checkArguments,
  type Device,
  ensure,
  finite,
  flag,
  optional,
  type Progress,
  text,
} from '../../engine/index.js';
import { aDevice, aPath, maybeFunction, settingsAmong } from '../arguments/forms.js';
import { blocksInDtype, inDtype, type WeightDtype } from '../checkpoint/inDtype.js';
import { checkShapes } from '../families/index.js';
import { isGgufPath } from '../files/ggufPath.js';
import type { CheckedOutput } from '../files/outputPlace.js';
import type { WrittenType } from '../gguf/encode.js';
import { inputPaths } from '../hub/inputPaths.js';
import { modelWarnings } from '../source/modelWarnings.js';
import { openModelSource } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';
import { logits } from '../transformer/logits.js';
import { Model } from '../transformer/model.js';
import { checkModelOutput } from './modelOutput.js';
import { verifyWritten } from './verifyWritten.js';
import { checkWritable, writeModel } from './writeModel.js';

/** Settings of `convert`. */
export interface ConvertOptions {
  /** Storage type of the weights (default: unchanged; in a folder blocks become F16). Vectors in a GGUF file stay F32. */
  type?: WrittenType;
  /** For a folder: most data bytes per shard (default: 5e9). */
  maxShardBytes?: number;
  /** Replace an existing output. */
  force?: boolean;
  onProgress?: Progress;
}

/** Result of `convert`. */
export interface Conversion {
  readonly from: string;
  readonly to: string;
  readonly layers: number;
  /** Number of tokens whose logits were compared, and the largest difference; null if `type` rounded weights in a GGUF file. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number } | null;
  /** What somebody should know of the model: weights that nothing reads, files that contradict each other. */
  readonly warnings: readonly string[];
}

/** Number of tokens on which the written model is compared. */
const COMPARED = 16;

/** The number type of a storage type; undefined for blocks. */
const dtypeOf = (type: WrittenType): WeightDtype | undefined =>
  (({ F32: 'f32', F16: 'f16', BF16: 'bf16', Q8_0: undefined }) as const)[type];

/**
 * Converts a model to a GGUF file if `to` ends in .gguf, else to a folder. Loads the result and checks that it gives the
 * same logits, unless `type` rounds the weights of a GGUF file; `to` appears only after this check.
 *
 * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_*, OUTPUT_*, VERIFICATION_FAILED.
 */
export async function convert(
  device: Device,
  from: string,
  to: string,
  options: ConvertOptions = {},
): Promise<Conversion> {
  checkArguments(
    'convert',
    { device, from, to, options },
    {
      device: aDevice,
      from: aPath,
      to: aPath,
      options: settingsAmong<ConvertOptions>({
        type: optional(text),
        maxShardBytes: optional(finite(1)),
        force: optional(flag),
        onProgress: maybeFunction,
      }),
    },
  );
  const { type, maxShardBytes, force = false, onProgress } = options;
  const toGguf = isGgufPath(to);
  const dtype = type && dtypeOf(type);
  ensure(
    toGguf || type === undefined || dtype !== undefined,
    `${to}: a folder cannot store ${type}`,
    'Give f32, f16 or bf16, or write a .gguf file.',
  );
  const output = await checkConversion(from, to, force);
  const arch = await readArchitecture(from);
  const source = await openModelSource(from);
  const stored = await source.openCheckpoint();
  // Blocks are dequantised straight to the requested type.
  const checkpoint = toGguf
    ? type
      ? blocksInDtype(stored, dtype ?? 'f32')
      : stored
    : inDtype(stored, dtype);
  try {
    checkShapes(arch, checkpoint);
    const keep = Array.from({ length: arch.layers }, (_, layer) => layer);
    const model = { source, checkpoint, arch, keep, replacements: new Map() };
    await checkWritable(model, to);
    const ids = Array.from({ length: COMPARED }, (_, i) => (i * 7919 + 1) % arch.vocab);
    const progress = onProgress && { onProgress };
    const expected = await logitsOf(device, from, ids, {
      ...(dtype && !toGguf && { dtype }),
      ...progress,
    });
    return await output.write(async target => {
      await writeModel({ ...model, device }, target, {
        ...(toGguf ? type && { type } : dtype && { dtype }),
        ...(maxShardBytes !== undefined && { maxShardBytes }),
        ...progress,
      });
      const verified = type === undefined || !toGguf;
      const maxLogitDifference = verified
        ? await verifyWritten(device, target, written => logitsFor(written, ids), expected)
        : 0;
      if (!verified) await logitsOf(device, target, ids);
      device.check();
      const verification = verified ? { tokens: ids.length, maxLogitDifference } : null;
      return { from, to, layers: arch.layers, verification, warnings: await modelWarnings(from) };
    });
  } finally {
    await checkpoint.close();
  }
}

/** Checks before any work that the conversion may be written. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export const checkConversion = async (from: string, to: string, force: boolean): Promise<CheckedOutput> =>
  checkModelOutput(from, to, { force, protect: await inputPaths([from]) });

async function logitsOf(
  device: Device,
  path: string,
  ids: readonly number[],
  options: { onProgress?: Progress; dtype?: WeightDtype } = {},
): Promise<Float32Array> {
  await using model = await Model.load(device, path, options);
  return await logitsFor(model, ids);
}

const logitsFor = async (model: Model, ids: readonly number[]): Promise<Float32Array> =>
  (await logits(model, ids)).logits;
