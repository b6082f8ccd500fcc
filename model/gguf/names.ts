import type { TensorNames } from '../architecture/architecture.js';
import type { GgufFamily } from './family.js';
import type { RowOrderKind } from './rowOrder.js';

const lookUp = (names: Readonly<Record<string, string>>, name: string): string | undefined =>
  Object.hasOwn(names, name) ? names[name] : undefined;

const reversed = (names: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(names).map(([a, b]) => [b, a]));

/** The row order of a GGUF tensor; undefined if it is transformers'. */
export function rowOrderKind({ rowOrders }: GgufFamily, name: string): RowOrderKind | undefined {
  const parts = partOf(name);
  return parts?.layer === undefined ? undefined : rowOrders[parts.part];
}

/** Offset that GGUF adds to a tensor's numbers: 1 for gains of norms that transformers stores as gain - 1. */
export const gainOffset = ({ gainOffset: offset }: GgufFamily, name: string): number =>
  /_norm\.weight$/.test(name) ? offset : 0;

/** Whether a tensor has the weights of a convolution, which transformers stores with one dimension more. */
export const isConvolution = (name: string): boolean => name.endsWith('.shortconv.conv.weight');

const EXPERT = /\.experts\.\d+\./;

/** Splits a GGUF name into layer number, part ("attn_q", or "output_norm" outside the layers) and ending. */
function partOf(name: string): { layer: number | undefined; part: string; kind: string } | undefined {
  const [, layer, part = '', kind = ''] = /^(?:blk\.(\d+)\.)?(.*)\.(weight|bias)$/.exec(name) ?? [];
  return kind === '' ? undefined : { layer: layer === undefined ? undefined : Number(layer), part, kind };
}

const allows = ({ biases }: GgufFamily, part: string, kind: string): boolean =>
  kind === 'weight' || biases.includes(part);

/**
 * Hugging Face's name of a GGUF tensor; undefined for a tensor that the family lacks. If GGUF stores the matrices of all
 * experts as one tensor, a star stands for the expert's number.
 */
export function huggingFaceName(family: GgufFamily, name: string): string | undefined {
  const parts = partOf(name);
  if (!parts || !allows(family, parts.part, parts.kind)) return undefined;
  const { layer, part, kind } = parts;
  const stem = lookUp(layer === undefined ? family.outerTensors : family.layerTensors, part);
  if (stem === undefined) return undefined;
  return layer === undefined ? `${stem}.${kind}` : `${family.layerPrefix}${layer}.${stem}.${kind}`;
}

/** Hugging Face's names of the tensors that a GGUF tensor of this shape holds; empty if the family lacks it. */
export function huggingFaceNames(family: GgufFamily, name: string, shape: readonly number[]): string[] {
  const pattern = huggingFaceName(family, name);
  if (pattern === undefined) return [];
  if (!pattern.includes('*')) return [pattern];
  return Array.from({ length: shape.length === 3 ? shape[0]! : 0 }, (_, expert) =>
    pattern.replace('*', String(expert)),
  );
}

/** GGUF's name of a checkpoint tensor; undefined for a tensor that the family lacks. */
export function ggufName(
  family: GgufFamily,
  names: Pick<
    TensorNames,
    'embedding' | 'finalNorm' | 'finalNormBias' | 'lmHead' | 'lmHeadBias' | 'layerPrefix'
  >,
  name: string,
): string | undefined {
  if (name === names.embedding) return 'token_embd.weight';
  if (name === names.finalNorm) {
    return 'output_norm' in family.outerTensors ? 'output_norm.weight' : 'token_embd_norm.weight';
  }
  if (name === names.finalNormBias)
    return allows(family, 'output_norm', 'bias') ? 'output_norm.bias' : undefined;
  if (name === names.lmHead) return 'output' in family.outerTensors ? 'output.weight' : undefined;
  if (name === names.lmHeadBias) return allows(family, 'output', 'bias') ? 'output.bias' : undefined;
  if (!name.startsWith(names.layerPrefix)) return undefined;
  const rest = name.slice(names.layerPrefix.length).replace(EXPERT, '.experts.*.');
  const [, layer, stem = '', kind = ''] = /^(\d+)\.(.*)\.(weight|bias)$/.exec(rest) ?? [];
  const part = layer === undefined ? undefined : lookUp(reversed(family.layerTensors), stem);
  return part !== undefined && allows(family, part, kind) ? `blk.${layer}.${part}.${kind}` : undefined;
}

/** The layer of a GGUF tensor, and a function that renumbers its name; undefined outside the layers. */
export function ggufLayerOf(name: string): { layer: number; renumbered: (to: number) => string } | undefined {
  const [, layer, rest] = /^blk\.(\d+)(\..*)$/.exec(name) ?? [];
  return layer === undefined ? undefined : { layer: Number(layer), renumbered: to => `blk.${to}${rest}` };
}
