import { ensure, RmError } from '../../engine/index.js';
import {
  besideModel,
  isGgufPath,
  isRecord,
  jsonOf,
  openModelSource,
  readJsonFileIfPresent,
} from '../../model/index.js';

/** Where a model folder was cut, by what rm-engine has written beside it. */
export interface Cut {
  /** Patched layers, counted in the pruned model. */
  readonly patched: readonly number[];
  /** By layer of the pruned model, that of the original it comes from. */
  readonly keptLayers: readonly number[];
}

const numbers = (value: unknown): readonly number[] | undefined =>
  Array.isArray(value) && value.every(Number.isInteger) ? (value as number[]) : undefined;

/** The layers that stay before windows, in the numbers of the pruned model. */
export const patchedLayers = (
  windows: readonly { readonly layer: number }[],
  keptLayers: readonly number[],
): number[] => windows.flatMap(({ layer }) => (layer < 0 ? [] : [keptLayers.indexOf(layer)]));

/**
 * Reads report.json of a folder (beside a GGUF file) that `prune` or `heal` has made; undefined where there is none that says.
 *
 * @throws RmError CONFIG_INVALID where the file is no JSON.
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
  // A report of another model, which was copied along, says nothing of this one.
  const fits = cut?.keptLayers.length === layers && cut.patched.every(layer => layer >= 0 && layer < layers);
  return fits ? cut : undefined;
}

/**
 * The layers to train: those asked for, else the patched ones of the cut, ascending.
 *
 * @throws RmError INVALID_ARGUMENT where there are none, or none of that number.
 */
export function layersToTrain(
  asked: readonly number[] | undefined,
  cut: Cut | undefined,
  layers: number,
  folder: string,
): number[] {
  const chosen = asked ?? cut?.patched;
  if (chosen === undefined || chosen.length === 0) {
    throw new RmError(
      'INVALID_ARGUMENT',
      cut === undefined
        ? `${folder}: has no report.json that says which layer was patched`
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
