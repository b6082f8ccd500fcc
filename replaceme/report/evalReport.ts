import type { Device } from '../../engine/index.js';
import { type GenerationHealth, leftOutWarnings, modelWarnings, type TaskResult } from '../../model/index.js';
import { continuationOf, type Sample } from '../evaluation/samples.js';
import type { PhaseClock } from '../run/phaseClock.js';
import { repeatOf } from './repeat.js';
import { exactnessWarnings, reportHead, reportModel } from './reportHead.js';
import type { EvalReport, FileEvaluation, TaskEvaluation } from './schema/schema.js';
import { evalSentence } from './sentence.js';

/** The results of an evaluation. */
export interface EvalFindings {
  /** Path of the model; `against`: of the other model. */
  readonly model: string;
  readonly against?: string | undefined;
  readonly files: readonly FileEvaluation[];
  readonly tasks?: readonly (TaskResult & { readonly against?: TaskResult })[] | undefined;
  readonly health?: (GenerationHealth & { readonly against?: GenerationHealth }) | undefined;
  /** Whether prompts went through a chat template. */
  readonly chat: boolean;
  /** What the chat template took for the present; absent where it prints no date. */
  readonly templateDate?: string | undefined;
}

const STANDARD_ERROR = '_stderr';

function taskOf({
  task,
  rows,
  fewshot,
  metrics,
  against,
}: NonNullable<EvalFindings['tasks']>[number]): TaskEvaluation {
  const names = Object.keys(metrics).filter(name => !name.endsWith(STANDARD_ERROR));
  return {
    task,
    rows,
    fewShot: fewshot,
    metrics: names.map(metric => {
      const standardError = metrics[metric + STANDARD_ERROR];
      const other = against?.metrics[metric];
      return {
        metric,
        value: metrics[metric]!,
        ...(standardError !== undefined && { standardError }),
        ...(other !== undefined && { against: other }),
      };
    }),
  };
}

const samplesOf = ({ health, chat }: EvalFindings): Sample[] =>
  (health?.samples ?? []).map(({ prompt }, p) => ({
    prompt,
    chat,
    continuations: (
      [
        ['model', health],
        ['other model', health?.against],
      ] as const
    ).flatMap(([model, written]) => {
      const sample = written?.samples[p];
      return sample ? [continuationOf(model, sample)] : [];
    }),
  }));

/**
 * The report of an evaluation.
 *
 * @param command the words of the command line.
 */
export async function evalReport(
  device: Device,
  findings: EvalFindings,
  { clock, command }: { clock: PhaseClock; command: readonly string[] },
): Promise<EvalReport> {
  const model = await reportModel(findings.model);
  const against = findings.against === undefined ? undefined : await reportModel(findings.against);
  const tasks = (findings.tasks ?? []).map(taskOf);
  const samples = samplesOf(findings);
  return {
    ...(await reportHead(device, clock)),
    kind: 'eval',
    sentence: evalSentence({ model, files: findings.files, tasks, ...(against && { against }) }),
    repeat: repeatOf('evaluate', [findings.model], { command }),
    warnings: [
      ...(await modelWarnings(findings.model)),
      ...leftOutWarnings(findings.files),
      ...exactnessWarnings(device),
    ],
    model,
    ...(against && { against }),
    ...(findings.templateDate !== undefined && { templateDate: findings.templateDate }),
    files: findings.files,
    tasks,
    ...(samples.length > 0 && { samples }),
  };
}
