import { ensure, RmError } from '../../engine/index.js';
import {
  besideModel,
  isGgufPath,
  isRecord,
  jsonOf,
  openModelSource,
  readJsonFileIfPresent,
} from '../../model/index.js';

/** Where a model was cut, according to the report that rm-engine wrote beside it. */
export interface Cut {
  /** Patched layers, counted in the pruned model. */
  readonly patched: readonly number[];
  /** For each layer of the pruned model its index in the original. */
  readonly keptLayers: readonly number[];
}

const numbers = (value: unknown): readonly number[] | undefined =>
  Array.isArray(value) && value.every(Number.isInteger) ? (value as number[]) : undefined;

/** The layers that stay before windows, counted in the pruned model. */
export const patchedLayers = (
  windows: readonly { readonly layer: number }[],
  keptLayers: readonly number[],
): number[] => windows.flatMap(({ layer }) => (layer < 0 ? [] : [keptLayers.indexOf(layer)]));

/**
 * Reads the cut from the report.json that `prune` or `heal` wrote into the folder (or beside a GGUF file); undefined where
 * there is no such report.
 *
 * @throws RmError CONFIG_INVALID where the file is not JSON.
 */
export async function readCut(folder: string, layers: number): Promise<Cut | undefined> {
  const report = isGgufPath(folder)
    ? await readJsonFileIfPresent(besideModel(folder, 'report.json'))
    : await jsonOf(await openModelSource(folder), 'report.json');
  if (!isRecord(report)) return undefined;
  let cut: Cut | undefined;
  if (report.kind === 'prune' && isRecord(report.selection) && isRecord(report.output)) {
    const keptLayers = numbers(report.output.keptLayers);
    const windows = Array.isArray(report.selection.windows) ? report.selection.windows : [];
    if (keptLayers && windows.every(isRecord)) {
      cut = { keptLayers, patched: patchedLayers(windows as unknown as { layer: number }[], keptLayers) };
    }
  } else if (report.kind === 'heal' && isRecord(report.cut)) {
    const { patched, keptLayers } = report.cut;
    if (numbers(patched) && numbers(keptLayers)) cut = { patched, keptLayers } as Cut;
  }
  // Ignore the report of another model that was copied along.
  const fits = cut?.keptLayers.length === layers && cut.patched.every(layer => layer >= 0 && layer < layers);
  return fits ? cut : undefined;
}

/**
 * The layers to train, ascending: the requested ones, else the cut's patched ones.
 *
 * @throws RmError INVALID_ARGUMENT where there are none, or a layer does not exist.
 */
export function layersToTrain(
  requested: readonly number[] | undefined,
  cut: Cut | undefined,
  layers: number,
  folder: string,
): number[] {
  const chosen = requested ?? cut?.patched;
  if (chosen === undefined || chosen.length === 0) {
    throw new RmError(
      'INVALID_ARGUMENT',
      cut === undefined
        ? `${folder}: has no report.json that names the patched layer`
        : `${folder}: no layer stays before the removed ones`,
      'Name the layer after which layers were removed as `layers`, or train all weights (`train: full`).',
    );
  }
  for (const [i, layer] of chosen.entries()) {
    ensure(
      Number.isInteger(layer) && layer >= 0 && layer < layers,
      `there is no layer ${layer} in a model of ${layers} layers`,
      `Layers are counted from 0 to ${layers - 1}, in the pruned model.`,
    );
    ensure(chosen.indexOf(layer) === i, `layer ${layer} is named twice`, 'Name every layer once.');
  }
  return [...chosen].sort((a, b) => a - b);
}
