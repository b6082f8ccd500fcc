import type { GgufFile } from '../gguf/file.js';
import { GgufMetadata } from '../gguf/metadata.js';
import { type GgufValue, ggufArray } from '../gguf/values.js';
import type { WrittenMetadata } from '../gguf/writer.js';

/** Of the file that was read: how its tensors were laid out, or what no longer holds. */
const leftOut = new Set([
  'general.alignment',
  'general.size_label',
  'split.count',
  'split.no',
  'split.tensors.count',
]);

const text = (value: string): GgufValue => ({ type: 'string', value });

/** A model's size as Hugging Face names it: 135M, 1.2B. */
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
 * The metadata of a file for the layers `keep` (old indices, ascending): block_count and every list of the architecture
 * that has one element per layer cut, a name that says what was done and whose model it was, all else byte for byte.
 *
 * @param parameters of the model that is written.
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
