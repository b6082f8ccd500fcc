import type { Checkpoint } from '../checkpoint/checkpoint.js';
import { SplitExperts } from '../checkpoint/fusedExperts.js';
import type { WeightDtype } from '../checkpoint/inDtype.js';
import type { CompressedLayout, Compression } from '../families/compression.js';
import { awqParts, awqWeights } from './awqWeights.js';
import { CompressedCheckpoint } from './compressedCheckpoint.js';
import type { CompressedTensor } from './compressedTensor.js';
import { gptqParts, gptqWeights } from './gptqWeights.js';
import { mxfp4Experts } from './mxfp4Experts.js';
import { isCoded, scaledParts, scaledWeights, scaleNames } from './scaledWeights.js';
import { StoredParts } from './storedParts.js';

/** What is stored for inputs, outputs and caches that are quantised while a model runs. */
const ofActivations = /\.(input|output|activation|[qkv])_(scale|zero_point|global_scale|scale_ub)$/;

/** Layouts in which each module has parts of its own. */
type ModuleLayout = Exclude<CompressedLayout, { readonly kind: 'mxfp4' }>;

/** Modules that are opened at a time. */
const TOGETHER = 64;

/**
 * Presents a checkpoint of compressed weights as one of weights in `dtype`, which the device dequantises. Checks the shapes of
 * all parts.
 *
 * @param stored closed by the returned checkpoint, also where this fails.
 * @throws RmError CHECKPOINT_CORRUPT naming the tensor.
 */
export async function openCompressed(
  stored: Checkpoint,
  compression: Compression,
  dtype: WeightDtype,
): Promise<Checkpoint> {
  try {
    const parts = new StoredParts(stored);
    const { layout, whole } = compression;
    if (layout.kind === 'mxfp4') {
      const { names, tensors } = mxfp4Experts(parts);
      return new SplitExperts(new CompressedCheckpoint(stored, names, tensors, dtype));
    }
    const modules = compressedModules(parts, layout, whole);
    const tensors = new Map<string, CompressedTensor>();
    for (let at = 0; at < modules.length; at += TOGETHER) {
      const some = modules.slice(at, at + TOGETHER);
      const opened = await Promise.all(some.map(module => openModule(parts, module, layout)));
      for (const [i, module] of some.entries()) tensors.set(`${module}.weight`, opened[i]!);
    }
    return new CompressedCheckpoint(stored, namesOf(parts, layout, tensors), tensors, dtype);
  } catch (error) {
    await stored.close();
    throw error;
  }
}

/** Names of the parts from which a compressed module is known, and of all. */
const partsOf = ({ kind }: ModuleLayout): { first: readonly string[]; all: readonly string[] } => {
  if (kind === 'gptq') return { first: ['qweight'], all: gptqParts };
  if (kind === 'awq') return { first: ['qweight'], all: awqParts };
  return { first: ['weight', 'weight_packed'], all: ['weight', 'weight_packed', ...scaledParts] };
};

const openModule = async (
  parts: StoredParts,
  module: string,
  layout: ModuleLayout,
): Promise<CompressedTensor> => {
  if (layout.kind === 'gptq') return await gptqWeights(parts, module, layout);
  if (layout.kind === 'awq') return awqWeights(parts, module, layout);
  return await scaledWeights(parts, module, layout.schemes);
};

/** Splits a tensor's name at the last dot. */
function split(name: string): [module: string, part: string] {
  const dot = name.lastIndexOf('.');
  return [name.slice(0, Math.max(0, dot)), name.slice(dot + 1)];
}

function compressedModules(parts: StoredParts, layout: ModuleLayout, whole: readonly string[]): string[] {
  const { first } = partsOf(layout);
  return parts.checkpoint.names.flatMap(name => {
    const [module, part] = split(name);
    if (!first.includes(part)) return [];
    const stated = whole.find(
      listed => module === listed || module.endsWith(`.${listed}`) || module.startsWith(`${listed}.`),
    );
    if (part === 'weight' && !isCoded(parts.find(name)!.storage)) {
      const scale = scaleNames.find(beside => parts.find(`${module}.${beside}`));
      if (scale === undefined || stated !== undefined) return [];
      throw parts.damaged(name, `is stored as ${parts.find(name)!.storage}, and yet it has a ${scale}`);
    }
    if (stated === undefined) return [module];
    throw parts.damaged(name, `is compressed, and yet config.json leaves ${JSON.stringify(stated)} whole`);
  });
}

/** Names without parts: a compressed weight stands where its first part does. */
function namesOf(
  { checkpoint }: StoredParts,
  layout: ModuleLayout,
  tensors: ReadonlyMap<string, CompressedTensor>,
): string[] {
  const { all } = partsOf(layout);
  const names = checkpoint.names.flatMap(name => {
    const [module, part] = split(name);
    if (all.includes(part) && tensors.has(`${module}.weight`)) return [`${module}.weight`];
    const beside = part !== 'weight' && all.includes(part) && checkpoint.has(`${module}.weight`);
    return beside || ofActivations.test(name) ? [] : [name];
  });
  return [...new Set(names)];
}
