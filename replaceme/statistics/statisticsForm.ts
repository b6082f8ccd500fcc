import {
  also,
  anything,
  type Form,
  finite,
  flag,
  listOf,
  oneOf,
  optional,
  orNull,
  record,
  tableOf,
  text,
  textLike,
  whole,
} from '../../engine/index.js';
import { type Architecture, attendedColumns, mlpSizes } from '../../model/index.js';
import type { Calibration } from '../calibration/readCalibration.js';
import { checkRemoved, lastRemoved, removedLayers, type Window } from '../run/window.js';
import type { MeasuredWindows, WindowChoice } from '../run/windowChoice.js';
import { ofExpert } from './expertSums.js';
import type { RowSums } from './statisticsStore.js';

/** The description of a statistics file, all of it JSON. */
export interface StatisticsContent {
  recipe: Record<string, unknown>;
  sums: Record<string, SumsEntry>;
  distances: Record<string, Record<string, RowSums>>;
  /** Windows that selections chose, by everything that the choice depends on. */
  choices: Record<string, WindowChoice>;
  /** Calibration text that the model wrote. */
  generated: Calibration | null;
}

/** Sums by their name "KIND LAYER..TARGET WEIGHTING". */
export interface SumsEntry {
  readonly numbers: Readonly<Record<string, number>>;
  /** Names of the matrices. */
  readonly parts: readonly string[];
}

const sumsName = /^(.+?) (\d{1,6})\.\.(\d{1,6}) /;

/** More layers than any model has: forms bound what they are used for. */
const MOST_LAYERS = 100_000;

const windowForm: Form<Window> = record({ layer: whole(-1, MOST_LAYERS), count: whole(1, MOST_LAYERS) });
const windowsForm = also(listOf(windowForm, 1), windows => {
  const touching = windows.some((window, at) => at > 0 && window.layer <= lastRemoved(windows[at - 1]!));
  return touching ? 'its windows overlap or are not ascending' : undefined;
});

const mapForm: Form<MeasuredWindows> = record({
  layers: whole(1),
  tokens: whole(),
  windows: listOf(
    record({
      ...{ layer: whole(), count: whole(1), cosine: finite() },
      ...{ residual: optional(finite()), unexplained: optional(finite()) },
    }),
  ),
}) as Form<MeasuredWindows>;

const choiceForm = record({
  windows: windowsForm,
  by: text,
  distances: optional(listOf(finite())),
  candidates: optional(
    listOf(
      record({
        ...{ windows: windowsForm, cosine: finite(), residual: finite() },
        ...{ kl: finite(), nll: finite(), tokens: optional(whole()), healed: flag },
      }),
    ),
  ),
  map: optional(mapForm),
}) as Form<WindowChoice>;

const generatedForm = record({
  sequences: listOf(record({ ids: listOf(whole(), 1), source: whole(), half: oneOf(0, 1) }), 1),
  tokens: whole(1),
  files: listOf(
    record({ path: text, sha256: text, weight: finite(0), tokens: whole(), documents: optional(whole()) }),
    1,
  ),
}) as Form<Calibration>;

/** The form of the description, before anything is known of the model. */
export const statisticsForm = record({
  recipe: tableOf(anything),
  sums: tableOf(
    record({ numbers: tableOf(finite()), parts: listOf(text, 1) }),
    textLike(sumsName, 'the name of sums'),
  ),
  distances: tableOf(
    tableOf(
      record({ sums: listOf(finite(), 1), rows: whole(1) }),
      textLike(/^[1-9]\d{0,5}$/, 'a number of layers'),
    ),
  ),
  choices: tableOf(choiceForm),
  generated: orNull(generatedForm),
}) as Form<StatisticsContent>;

/** What a kind of sums holds: matrices, with so many rows each, and numbers. */
interface Kind {
  readonly parts: Readonly<Record<string, number>>;
  readonly numbers: readonly string[];
  /** Numbers that files of earlier versions lack. */
  readonly later?: readonly string[];
}

const wide = (parts: readonly string[]): string[] => parts.flatMap(part => [`${part} hi`, `${part} lo`]);

const halves = ['G 0', 'C 0', 'G 1', 'C 1'];
const massiveNumbers = ['massiveTokens', 'massiveTargetSquares', 'outputSquares', 'massiveOutputSquares'];
const halfNumbers = ['trace0', 'targetSquares0', 'trace1', 'targetSquares1'];

const rowsEach = (parts: readonly string[], rows: number): Record<string, number> =>
  Object.fromEntries(parts.map(part => [part, rows]));

/** The sums of down_proj of a layer: in a mixture of experts of each of them. */
function downKind(arch: Architecture, layer: number): Kind {
  const { matrices, features, shared } = mlpSizes(arch, layer);
  if (!arch.tensorNames.layers[layer]!.router) {
    return { parts: rowsEach(halves, features), numbers: halfNumbers };
  }
  const all = [...Array(matrices + (shared > 0 ? 1 : 0)).keys()].map(e => ofExpert(e, matrices));
  const named = (names: readonly string[], suffix: string) => names.map(name => name + suffix);
  return {
    parts: Object.assign(
      {},
      ...all.map((suffix, e) => rowsEach(named(halves, suffix), e < matrices ? features : shared)),
    ),
    numbers: all.flatMap(suffix => named(halfNumbers, suffix)),
  };
}

/** Our methods' kinds of sums of a layer; others, of methods of callers, are not looked into. */
function kindOf(arch: Architecture, name: string, layer: number): Kind | undefined {
  switch (name) {
    case 'ls': {
      const numbers = ['tokens', 'targetSquares'];
      return { parts: rowsEach(wide(['G', 'C']), arch.hidden), numbers, later: massiveNumbers };
    }
    case 'refit o_proj':
      return { parts: rowsEach(wide(halves), attendedColumns(arch, layer)), numbers: halfNumbers };
    case 'refit down_proj':
      return downKind(arch, layer);
    default:
      return undefined;
  }
}

const same = (a: readonly unknown[], b: readonly unknown[]): boolean =>
  a.length === b.length && a.every(item => b.includes(item));

/** What does not belong to this model in a file's description and shapes; undefined where all does. */
export function misfit(
  content: StatisticsContent,
  arch: Architecture,
  shapeOf: (tensor: string) => readonly number[],
): string | undefined {
  const { layers, hidden, vocab } = arch;
  for (const [name, { parts, numbers }] of Object.entries(content.sums)) {
    const [, kindName, layer, target] = sumsName.exec(name)!;
    if (!(Number(layer) <= Number(target) && Number(target) < layers)) {
      return `the sums "${name}" are of layers that the model does not have`;
    }
    const kind = kindOf(arch, kindName!, Number(layer));
    if (!kind) continue;
    const given = Object.keys(numbers);
    const complete = [kind.numbers, [...kind.numbers, ...(kind.later ?? [])]].some(all => same(given, all));
    if (!same(parts, Object.keys(kind.parts)) || !complete) return `the sums "${name}" are not complete`;
    if (Object.values(numbers).some(number => number < 0)) return `the sums "${name}" have a negative square`;
    for (const part of parts) {
      const rows = kind.parts[part]!;
      const needed = [rows, part.startsWith('G') ? rows : hidden];
      const shape = shapeOf(`${name} ${part}`);
      if (`${shape}` !== `${needed}`) {
        return `"${name} ${part}" is [${shape}], in this model it is [${needed}]`;
      }
    }
  }
  for (const [measure, byCount] of Object.entries(content.distances)) {
    for (const [count, { sums }] of Object.entries(byCount)) {
      // Block influence is one of each layer, the last included.
      const windows = layers - Number(count);
      if (sums.length !== windows && !(count === '1' && sums.length === layers)) {
        return `the measure ${measure} has ${sums.length} windows of ${count} layers, the model ${windows}`;
      }
    }
  }
  for (const { windows } of Object.values(content.choices)) {
    try {
      checkRemoved(removedLayers(windows), layers);
    } catch {
      return 'it chooses layers that the model does not have';
    }
  }
  const { generated } = content;
  const known = (id: number) => id < vocab;
  if (
    generated &&
    !generated.sequences.every(({ ids, source }) => ids.every(known) && source < generated.files.length)
  ) {
    return 'its generated text has tokens that the model does not have';
  }
  return undefined;
}
