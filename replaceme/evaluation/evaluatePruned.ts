import { type DeviceFacts, noJournal } from '../../engine/index.js';
import { firstTokens, type Model, type TextReader } from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import { keptLayers, removedLayers, type Window } from '../run/window.js';
import type { EvaluationText, ReportTexts } from './evaluationText.js';
import { type Damage, layerDamage } from './layerDamage.js';
import type { Measures } from './modelMeasures.js';
import { ModelMeter } from './modelMeter.js';
import type {
  DamageSeries,
  LayerDamage,
  ModelMeasures,
  PruneEvaluation,
  PruneOutcome,
  Role,
} from './pruneEvaluation.js';
import { samplesOf } from './samples.js';

interface MeasureOptions extends RunHooks {
  readonly batchTokens: number;
  /** Whether to measure speeds, the nearest single window, damage by layer and samples too. */
  readonly full: boolean;
}

/** Number of tokens for comparing models layer by layer. */
export const damageTokens = ({ info }: DeviceFacts): number => (info.kind === 'software' ? 512 : 8192);

/** The first tokens of all texts, equally many of each. */
export function tokensOfAll(texts: readonly EvaluationText[], tokens: number): number[][] {
  const share = Math.ceil(tokens / texts.length);
  return texts.flatMap(({ sequences }) => firstTokens(sequences as readonly number[][], share));
}

/**
 * Measures the unpruned model, plain removal of the same layers, and the result: on texts and, in full, layer by layer and
 * by samples that they write.
 *
 * @throws RmError NOT_FINITE where a model assigns no finite likelihood to a text.
 */
export async function evaluatePruned(
  outcome: PruneOutcome,
  { texts, described }: ReportTexts,
  reader: TextReader,
  options: MeasureOptions,
): Promise<PruneEvaluation> {
  const { model, pruned, spareBytes } = outcome;
  const { journal = noJournal } = options;
  const plain = model.withLayers(pruned.keep);
  const changed = pruned.replacements.size > 0;
  const nearest = changed && options.full ? nearestWindow(outcome) : undefined;
  const measureAll = async () => {
    using meter = await ModelMeter.of(model, texts, { ...options, room: spareBytes });
    const { own, reference } = await journal.step('result', () => meter.scoresOfBoth(pruned.model, options));
    const removed = async (of: Model) => await journal.step('plain', () => meter.scores(of, options));
    const found: ModelMeasures[] = [{ role: 'dense', layers: model.arch.layers, ...reference }];
    if (changed) {
      const same = await removed(plain);
      const other = nearest && (await removed(model.withLayers(keptLayers([nearest], model.arch.layers))));
      const best = other && klOf(other) < klOf(same) ? { ...other, windows: [nearest] } : same;
      found.push({ role: 'plain', layers: plain.arch.layers, ...best });
    }
    found.push({ role: 'result', layers: pruned.model.arch.layers, ...own });
    if (!options.full) return found;
    // Models of one shape have one speed.
    const [ofDense, ofPruned] = await journal.step('speeds', () => meter.speeds([model, pruned.model]));
    return found.map(measured => ({
      ...measured,
      tokensPerSecond: (measured.role === 'dense' ? ofDense : ofPruned)!,
    }));
  };
  const roles: [Role, Model][] = [
    ['dense', model],
    ...(changed ? [['plain', plain] as [Role, Model]] : []),
    ['result', pruned.model],
  ];
  return {
    texts: described,
    models: await measureAll(),
    ...(options.full && {
      damageByLayer: await journal.step('damage by layer', () => damageOf(outcome, plain, texts, options)),
    }),
    // An offloaded model would upload all layers for every token.
    samples: model.isOffloaded || !options.full ? [] : await samplesOf(roles, reader, options),
  };
}

/** Mean KL over all texts. */
const klOf = ({ eval: files }: Pick<Measures, 'eval'>): number =>
  files.reduce((sum, { kl }) => sum + kl, 0) / files.length;

/** The single window whose ends are nearest, whose removal may do better than that of the result's; undefined if it is that. */
function nearestWindow({ map, windows }: PruneOutcome): Window | undefined {
  const count = removedLayers(windows).length;
  const [nearest] = (map?.windows ?? [])
    .filter(window => window.count === count)
    .sort((a, b) => a.cosine - b.cosine);
  if (!nearest || (windows.length === 1 && windows[0]!.layer === nearest.layer)) return undefined;
  return { layer: nearest.layer, count };
}

/** Damage after removal alone, with the layers before the windows changed, and with all changes. */
async function damageOf(
  { model, pruned, windows, healed }: PruneOutcome,
  plain: Model,
  texts: readonly EvaluationText[],
  options: MeasureOptions,
): Promise<LayerDamage> {
  const { keep } = pruned;
  const fitted = pruned.withOnly(
    model,
    windows.map(({ layer }) => layer),
  );
  const stages: [DamageSeries['stage'], Model][] = [['plain', plain]];
  if (healed && fitted) stages.push(['fit', fitted]);
  if (pruned.replacements.size > 0) stages.push([healed ? 'healed' : 'fit', pruned.model]);
  const damage: Damage = await layerDamage(
    model,
    stages.map(([, staged]) => staged),
    keep,
    tokensOfAll(texts, damageTokens(model.device)),
    options,
  );
  const { tokens, sinks } = damage;
  return { tokens, sinks, series: stages.map(([stage], s) => ({ stage, layers: damage.models[s]! })) };
}
