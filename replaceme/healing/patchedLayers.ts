import {
  also,
  brokenSeal,
  ensure,
  isRecord,
  listOf,
  oneOf,
  RmError,
  readForm,
  record,
  text,
  whole,
} from '../../engine/index.js';
import {
  besideModel,
  isGgufPath,
  jsonOf,
  openModelSource,
  readJsonFileIfPresent,
} from '../../model/index.js';
import { describeWindows, keptLayers, lastRemoved } from '../run/window.js';

/** Where a model was cut, according to the report that rm-engine wrote beside it. */
export interface Cut {
  /** Patched layers, counted in the pruned model. */
  readonly patched: readonly number[];
  /** For each layer of the pruned model its index in the original. */
  readonly keptLayers: readonly number[];
}

/** The layers that stay before windows, counted in the pruned model. */
export const patchedLayers = (
  windows: readonly { readonly layer: number }[],
  keptLayers: readonly number[],
): number[] => windows.flatMap(({ layer }) => (layer < 0 ? [] : [keptLayers.indexOf(layer)]));

const ascending = also(listOf(whole()), layers =>
  layers.every((layer, at) => at === 0 || layer > layers[at - 1]!) ? undefined : 'layers are not ascending',
);
const modelForm = record({ layers: whole(1, 100_000) });
const pruneForm = record({
  model: modelForm,
  summary: text,
  selection: record({ windows: listOf(record({ layer: whole(-1), count: whole(1) }), 1) }),
  output: record({ layers: whole(1), keptLayers: ascending }),
});
const healForm = record({ model: modelForm, cut: record({ patched: ascending, keptLayers: ascending }) });

const CONTRADICTION = 'what it says of layers does not agree';

/** The cut of a report of `prune`, whose facts must agree with each other. */
function cutOfPrune(report: unknown, fail: (problem: string) => Error): Cut {
  const { model, summary, selection, output } = readForm(report, pruneForm, fail);
  const { windows } = selection;
  const inside = windows.every(window => lastRemoved(window) < model.layers);
  const kept = inside ? keptLayers(windows, model.layers) : [];
  const agree =
    `${kept}` === `${output.keptLayers}` &&
    kept.length === output.layers &&
    summary === describeWindows(windows, model.layers);
  if (!agree) throw fail(CONTRADICTION);
  return { keptLayers: kept, patched: patchedLayers(windows, kept) };
}

/** The same of a report of `heal`. */
function cutOfHeal(report: unknown, fail: (problem: string) => Error): Cut {
  const { model, cut } = readForm(report, healForm, fail);
  const agree = model.layers === cut.keptLayers.length && (cut.patched.at(-1) ?? 0) < model.layers;
  if (!agree) throw fail(CONTRADICTION);
  return cut;
}

/**
 * Reads the cut from the report.json that `prune` or `heal` wrote into the folder (or beside a GGUF file); undefined where
 * there is no such report, or one of a model with another number of layers, which was copied along.
 *
 * @throws RmError CONFIG_INVALID where the report is not JSON, has changed since it was written, or contradicts itself.
 */
export async function readCut(folder: string, layers: number): Promise<Cut | undefined> {
  const gguf = isGgufPath(folder);
  const source = gguf ? undefined : await openModelSource(folder);
  const path = source ? source.nameOf('report.json') : besideModel(folder, 'report.json');
  const report = source ? await jsonOf(source, 'report.json') : await readJsonFileIfPresent(path);
  if (!isRecord(report) || !`${report.schema}`.startsWith('rm-engine-report/')) return undefined;
  const fail = (problem: string) =>
    new RmError(
      'CONFIG_INVALID',
      `${path}: is not as it was written: ${problem}`,
      'Move the report away and name the patched layers as `layers`, or prune again.',
    );
  // Reports had no hash at first: then the facts that agree with each other must do.
  const broken = report.sha256 === undefined ? undefined : brokenSeal(report);
  if (broken) throw fail(broken);
  const kind = readForm(report.kind, oneOf('prune', 'heal', 'compare', 'eval'), problem =>
    fail(`kind: ${problem}`),
  );
  const cut =
    kind === 'prune' ? cutOfPrune(report, fail) : kind === 'heal' ? cutOfHeal(report, fail) : undefined;
  return cut?.keptLayers.length === layers ? cut : undefined;
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
