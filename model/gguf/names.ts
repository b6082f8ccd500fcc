import type { TensorNames } from '../architecture/architecture.js';
import type { GgufFamily } from './family.js';
import type { RowOrderKind } from './rowOrder.js';

const lookUp = (names: Readonly<Record<string, string>>, name: string): string | undefined =>
  Object.hasOwn(names, name) ? names[name] : undefined;

const reversed = (names: Readonly<Record<string, string>>): Readonly<Record<string, string>> =>
  Object.fromEntries(Object.entries(names).map(([a, b]) => [b, a]));

/** The order of rows of a GGUF tensor, where it is not transformers'. */
export function rowOrderKind({ rowOrders }: GgufFamily, name: string): RowOrderKind | undefined {
  const found = partOf(name);
  return found?.layer === undefined ? undefined : rowOrders[found.part];
}

/** What GGUF adds to the numbers of a tensor: 1 to gains of norms that transformers stores as their difference from 1. */
export const gainOffset = ({ gainOffset: offset }: GgufFamily, name: string): number =>
  /_norm\.weight$/.test(name) ? offset : 0;

const EXPERT = /\.experts\.\d+\./;

/** A name without its number of a layer and its ending: "output_norm", or of a layer "attn_q". */
export function partOf(name: string): { layer: number | undefined; part: string; kind: string } | undefined {
  const [, layer, part = '', kind = ''] = /^(?:blk\.(\d+)\.)?(.*)\.(weight|bias)$/.exec(name) ?? [];
  return kind === '' ? undefined : { layer: layer === undefined ? undefined : Number(layer), part, kind };
}

const mayBe = ({ biases }: GgufFamily, part: string, kind: string): boolean =>
  kind === 'weight' || biases.includes(part);

/**
 * Hugging Face's name of a GGUF tensor, undefined for one that the family does not have. Where GGUF has the matrices of
 * all experts as one tensor, a star stands for the number of the expert.
 */
export function huggingFaceName(family: GgufFamily, name: string): string | undefined {
  const found = partOf(name);
  if (!found || !mayBe(family, found.part, found.kind)) return undefined;
  const { layer, part, kind } = found;
  const known = lookUp(layer === undefined ? family.outerTensors : family.layerTensors, part);
  if (known === undefined) return undefined;
  return layer === undefined ? `${known}.${kind}` : `${family.layerPrefix}${layer}.${known}.${kind}`;
}

/** The tensors of Hugging Face that a GGUF tensor of that shape holds; none for one that the family does not have. */
export function huggingFaceNames(family: GgufFamily, name: string, shape: readonly number[]): string[] {
  const found = huggingFaceName(family, name);
  if (found === undefined) return [];
  if (!found.includes('*')) return [found];
  return Array.from({ length: shape.length === 3 ? shape[0]! : 0 }, (_, expert) =>
    found.replace('*', String(expert)),
  );
}

/** GGUF's name of a tensor that a checkpoint with such names has; undefined for one that the family does not have. */
export function ggufName(
  family: GgufFamily,
  names: Pick<TensorNames, 'embedding' | 'finalNorm' | 'finalNormBias' | 'lmHead' | 'layerPrefix'>,
  name: string,
): string | undefined {
  if (name === names.embedding) return 'token_embd.weight';
  if (name === names.finalNorm) return 'output_norm.weight';
  if (name === names.finalNormBias)
    return mayBe(family, 'output_norm', 'bias') ? 'output_norm.bias' : undefined;
  if (name === names.lmHead) return 'output' in family.outerTensors ? 'output.weight' : undefined;
  if (!name.startsWith(names.layerPrefix)) return undefined;
  const rest = name.slice(names.layerPrefix.length).replace(EXPERT, '.experts.*.');
  const [, layer, stem = '', kind = ''] = /^(\d+)\.(.*)\.(weight|bias)$/.exec(rest) ?? [];
  const part = layer === undefined ? undefined : lookUp(reversed(family.layerTensors), stem);
  return part !== undefined && mayBe(family, part, kind) ? `blk.${layer}.${part}.${kind}` : undefined;
}

/** The layer of a GGUF tensor, and its name with another number. */
export function ggufLayerOf(name: string): { layer: number; renumbered: (to: number) => string } | undefined {
  const [, layer, rest] = /^blk\.(\d+)(\..*)$/.exec(name) ?? [];
  return layer === undefined ? undefined : { layer: Number(layer), renumbered: to => `blk.${to}${rest}` };
}
