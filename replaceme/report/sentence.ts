import { basename, resolve } from 'node:path';
import type { ImageEvaluation, PruneEvaluation } from '../evaluation/pruneEvaluation.js';
import { removedLayers, type Window } from '../run/window.js';
import type { CompareReport, EvalReport, HealReport, MeasuredRow, PruneReport } from './schema/schema.js';
import { closedFormInWords } from './text/fitWords.js';

const nameOf = (path: string): string => basename(resolve(path));

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

/** "layer 3", "layers 12 to 18", "layers 3, 5 and 12 to 18". */
function layersInWords(windows: readonly Window[]): string {
  const runs = windows.map(({ layer, count }) =>
    count === 1 ? `${layer + 1}` : `${layer + 1} to ${layer + count}`,
  );
  const list = runs.length === 1 ? runs[0]! : `${runs.slice(0, -1).join(', ')} and ${runs.at(-1)}`;
  return `layer${removedLayers(windows).length === 1 ? '' : 's'} ${list}`;
}

/** The result of the evaluation, as the end of a sentence. */
function outcome({ models }: PruneEvaluation): string {
  const scores = (role: string) => models.find(model => model.role === role)?.eval[0];
  const [dense, plain, result] = [scores('dense')!, scores('plain'), scores('result')!];
  const number = (value: number) => value.toPrecision(4);
  const alone = plain ? ` (${number(plain.ppl)} by removal alone)` : '';
  return `: perplexity on ${result.file} went from ${number(dense.ppl)} to ${number(result.ppl)}${alone}`;
}

/** The result of the evaluation on images, as the end of a sentence. */
function imageOutcome({ models }: ImageEvaluation): string {
  const cosine = (role: string) => models.find(model => model.role === role)!.cosine.toPrecision(4);
  return `: image embeddings have a cosine of ${cosine('result')} with the original ones (${cosine('plain')} by removal alone)`;
}

const trained = {
  transform: 'the linear map after the cut',
  'down-proj': 'down_proj before the cut',
  full: 'all weights',
} as const;

/** A prune in one sentence. */
export function pruneSentence({
  model,
  selection,
  method,
  recipe,
  calibration,
  evaluation,
  imageEvaluation,
  healing: healed,
}: Pick<
  PruneReport,
  'model' | 'selection' | 'method' | 'recipe' | 'calibration' | 'evaluation' | 'imageEvaluation' | 'healing'
>): string {
  const healings = [
    ...closedFormInWords(recipe),
    ...(healed
      ? [`${counted(healed.steps.length, 'step')} of training ${trained[healed.settings.train]}`]
      : []),
  ];
  const healing = healings.length > 0 ? ` with ${healings.join(' and ')}` : '';
  const with_ = calibration.tokens > 0 ? ` on ${counted(calibration.tokens, 'calibration token')}` : '';
  return (
    `Removed ${layersInWords(selection.windows)} of the ${model.layers} of ${nameOf(model.path)} by ` +
    `${method}${healing}${with_}${evaluation ? outcome(evaluation) : ''}` +
    `${imageEvaluation ? imageOutcome(imageEvaluation) : ''}.`
  );
}

/** A healing in one sentence. */
export function healSentence({
  model,
  teacher,
  healing: { settings, steps, heldOut },
  result,
}: Pick<HealReport, 'model' | 'teacher' | 'healing' | 'result'>): string {
  const towards =
    settings.objective === 'kl' && teacher ? `towards ${nameOf(teacher.path)}` : 'on the next token';
  const before = heldOut[0];
  const number = (value: number) => value.toPrecision(4);
  const outcome =
    result.kl !== undefined && before?.kl !== undefined
      ? `KL on held-out text went from ${number(before.kl)} to ${number(result.kl)}`
      : `perplexity on held-out text went from ${number(Math.exp(before?.nll ?? 0))} to ${number(result.perplexity)}`;
  return `Healed ${nameOf(model.path)} by ${counted(steps.length, 'step')} ${towards}, training ${trained[settings.train]}: ${outcome}.`;
}

/** A comparison in one sentence, with the row that came nearest to the unpruned model. */
export function compareSentence({
  model,
  calibration,
  evaluation,
  rows,
}: Pick<CompareReport, 'model' | 'calibration' | 'evaluation' | 'rows'>): string {
  const methods = new Set(rows.map(({ method }) => method)).size;
  const removed = [...new Set(rows.map(({ layers }) => layers))].join(', ');
  const measured = rows.filter((row): row is MeasuredRow => !('refused' in row));
  const best = measured.reduce<MeasuredRow | undefined>(
    (nearest, row) => (!nearest || row.eval[0]!.kl < nearest.eval[0]!.kl ? row : nearest),
    undefined,
  );
  const nearest =
    best && measured.length > 1
      ? `; ${best.method} with ${best.layers} removed came nearest on ${nameOf(evaluation[0]!.file)} ` +
        `(KL ${best.eval[0]!.kl.toPrecision(3)})`
      : '';
  return (
    `Compared ${counted(methods, 'method')} with ${removed} of the ${model.layers} layers of ${nameOf(model.path)} ` +
    `removed, on the same ${counted(calibration.tokens, 'calibration token')}${nearest}.`
  );
}

/** An evaluation in one sentence. */
export function evalSentence({
  model,
  against,
  files,
  tasks,
}: Pick<EvalReport, 'model' | 'against' | 'files' | 'tasks'>): string {
  const what = [
    ...(files.length > 0 ? [counted(files.length, 'text')] : []),
    ...(tasks.length > 0 ? [counted(tasks.length, 'task')] : []),
  ];
  const on = what.length > 0 ? `on ${what.join(' and ')}` : 'by samples of its text';
  return `Evaluated ${nameOf(model.path)} ${on}${against ? `, against ${nameOf(against.path)}` : ''}.`;
}
