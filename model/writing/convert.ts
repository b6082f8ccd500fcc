import { type Device, ensure, type Progress } from '../../engine/index.js';
import { blocksInDtype, inDtype, type WeightDtype } from '../checkpoint/inDtype.js';
import { checkShapes } from '../families/index.js';
import { isGgufPath } from '../files/ggufPath.js';
import type { WrittenType } from '../gguf/encode.js';
import { openModelSource } from '../source/openModelSource.js';
import { readArchitecture } from '../source/readArchitecture.js';
import { logits } from '../transformer/logits.js';
import { Model } from '../transformer/model.js';
import { checkModelOutput, withModelOutput } from './modelOutput.js';
import { verifyWritten } from './verifyWritten.js';
import { checkWritable, writeModel } from './writeModel.js';

/** Settings of `convert`. */
export interface ConvertOptions {
  /** What weights are stored as (default: as they are; in a folder blocks become F16). Vectors in a GGUF file stay F32. */
  type?: WrittenType;
  /** Of a folder: data bytes per file before a new shard begins (default: 5e9). */
  maxShardBytes?: number;
  /** Replace what is there. */
  force?: boolean;
  onProgress?: Progress;
}

/** What `convert` has written. */
export interface Conversion {
  readonly from: string;
  readonly to: string;
  readonly layers: number;
  /** Tokens whose logits were compared, and the largest difference; null where `type` has rounded what a GGUF file holds. */
  readonly verification: { readonly tokens: number; readonly maxLogitDifference: number } | null;
}

/** Tokens that the written model is compared on. */
const COMPARED = 16;

/** The number type of a type without blocks. */
const dtypeOf = (type: WrittenType): WeightDtype | undefined =>
  (({ F32: 'f32', F16: 'f16', BF16: 'bf16', Q8_0: undefined }) as const)[type];

/**
 * Writes a model in another form: a GGUF file where `to` ends in .gguf, else a folder. What was written is loaded and,
 * unless `type` rounds the weights of a GGUF file, gives the same logits; `to` appears only then.
 *
 * @throws RmError CHECKPOINT_*, CONFIG_INVALID, UNSUPPORTED_*, OUTPUT_*, VERIFICATION_FAILED.
 */
export async function convert(
  device: Device,
  from: string,
  to: string,
  { type, maxShardBytes, force = false, onProgress }: ConvertOptions = {},
): Promise<Conversion> {
  const toGguf = isGgufPath(to);
  const dtype = type && dtypeOf(type);
  ensure(
    toGguf || type === undefined || dtype !== undefined,
    `${to}: a folder holds no ${type}`,
    'Give f32, f16 or bf16, or write a .gguf file.',
  );
  const output = { force, protect: [from] };
  await checkModelOutput(to, output);
  const arch = await readArchitecture(from);
  const source = await openModelSource(from);
  const stored = await source.openCheckpoint();
  // Blocks become the numbers that are asked for without a step between.
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
    return await withModelOutput(to, output, async target => {
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
      return { from, to, layers: arch.layers, verification };
    });
  } finally {
    await checkpoint.close();
  }
}

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
