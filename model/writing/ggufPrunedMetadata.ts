import type { GgufFile } from '../gguf/file.js';
import { GgufMetadata } from '../gguf/metadata.js';
import { type GgufValue, ggufArray } from '../gguf/values.js';
import type { WrittenMetadata } from '../gguf/writer.js';

/** Keys that describe the source file's layout or no longer hold. */
const leftOut = new Set([
  'general.alignment',
  'general.size_label',
  'split.count',
  'split.no',
  'split.tensors.count',
]);

const text = (value: string): GgufValue => ({ type: 'string', value });

/** A model's size in Hugging Face's notation: 135M, 1.2B. */
export function sizeLabel(parameters: number): string {
  for (const [unit, size] of [
    ['B', 1e9],
    ['M', 1e6],
    ['K', 1e3],
  ] as const) {
    if (parameters < 0.9995 * size) continue;
    const count = parameters / size;
    return `${count < 10 ? Number(count.toFixed(1)) : Math.round(count)}${unit}`;
  }
  return String(parameters);
}

/**
 * Adapts a file's metadata to the layers `keep` (old indices, ascending): cuts block_count and every per-layer list of the
 * architecture, names the pruned model and its base model, and keeps the rest byte for byte.
 *
 * @param parameters number of weights written.
 */
export function prunedMetadata(
  file: Pick<GgufFile, 'metadata' | 'path'>,
  keep: readonly number[],
  parameters: number,
): WrittenMetadata {
  const metadata = new GgufMetadata(file.metadata, file.path);
  const architecture = metadata.text('general.architecture')!;
  const layers = metadata.count(`${architecture}.block_count`)!;
  const cut = keep.length < layers;
  const result = new Map<string, GgufValue & { readonly bytes?: Uint8Array }>();
  for (const [key, entry] of file.metadata) {
    if (leftOut.has(key)) continue;
    const perLayer =
      key.startsWith(`${architecture}.`) && entry.type === 'array' && entry.value.length === layers;
    if (perLayer) {
      const values = entry.value.values();
      result.set(
        key,
        ggufArray(
          entry.value.of,
          keep.map(layer => values[layer]),
        ),
      );
    } else if (key === `${architecture}.block_count` && cut) {
      result.set(key, { type: 'u32', value: keep.length });
    } else {
      result.set(key, entry);
    }
  }
  result.set('general.size_label', text(sizeLabel(parameters)));
  if (!cut) return result;
  const name = metadata.text('general.name');
  const base = name ?? metadata.text('general.basename') ?? architecture;
  result.set('general.name', text(`${base} (${keep.length} of ${layers} layers)`));
  result.set('general.base_model.count', { type: 'u32', value: 1 });
  result.set('general.base_model.0.name', text(base));
  const organisation = metadata.text('general.organization');
  if (organisation !== undefined) result.set('general.base_model.0.organization', text(organisation));
  return result;
}
