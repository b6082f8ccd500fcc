import { type Device, noJournal } from '../../engine/index.js';
import { firstTokens, type Model, type TextReader } from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { EvaluationText, ReportTexts } from './evaluationText.js';
import { type Damage, layerDamage } from './layerDamage.js';
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
}

/** Tokens that layers are compared on. */
export const damageTokens = ({ info }: Device): number => (info.kind === 'software' ? 512 : 8192);

/** The first tokens of all texts, of each as many. */
export function tokensOfAll(texts: readonly EvaluationText[], tokens: number): number[][] {
  const share = Math.ceil(tokens / texts.length);
  return texts.flatMap(({ sequences }) => firstTokens(sequences as readonly number[][], share));
}

/**
 * Measures the unpruned model, plain removal of the same layers and the result: on texts, layer by layer, and in what
 * they write.
 *
 * @throws RmError NOT_FINITE where one of them assigns no finite likelihood to a text.
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
  const roles: [Role, Model][] = [
    ['dense', model],
    ...(changed ? [['plain', plain] as [Role, Model]] : []),
    ['result', pruned.model],
  ];
  const measured = async () => {
    const models: ModelMeasures[] = [];
    using meter = await ModelMeter.of(model, texts, { ...options, room: spareBytes });
    for (const [role, of] of roles) {
      const measures = await journal.step(role, () => meter.measure(of, options));
      models.push({ role, layers: of.arch.layers, ...measures });
    }
    return models;
  };
  return {
    texts: described,
    models: await measured(),
    damageByLayer: await journal.step('damage by layer', () => damageOf(outcome, plain, texts, options)),
    // Every token would take all layers to the device.
    samples: model.isOffloaded ? [] : await samplesOf(roles, reader, options),
  };
}

/** Removal alone; with the layers before the windows changed; with all that has changed. */
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
    stages.map(([, of]) => of),
    keep,
    tokensOfAll(texts, damageTokens(model.device)),
    options,
  );
  const { tokens, sinks } = damage;
  return { tokens, sinks, series: stages.map(([stage], s) => ({ stage, layers: damage.models[s]! })) };
}
