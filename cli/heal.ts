import type { Command } from 'commander';
import { formatBytes, formatRate, formatSeconds } from '../engine/format.js';
import type { HealingPlan, HealOptions, HealReport } from '../replaceme/index.js';
import {
  healingRunSettings,
  healingTextSettings,
  healSettings,
  teacherSettings,
} from '../replaceme/options/healSettings.js';
import { listed } from '../replaceme/options/setting.js';
import { objectiveSettings, trainingSettings } from '../replaceme/options/trainingSettings.js';
import { formatFields } from '../replaceme/report/text/textTable.js';
import { withDevice } from './device/gpu.js';
import { openHealingLog } from './healingLog.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { addSettings, commandWords, libraryOptions } from './options/settings.js';
import { healingFields, small } from './prune/healingFields.js';
import { commandSettings } from './prune/options.js';
import { nextSteps } from './prune/summary.js';
import { newCommand, type Run, runs } from './terminal/command.js';
import { onCommandLine } from './terminal/failure.js';

interface HealCommandOptions extends ModelFlags {
  teacher?: string;
  resume?: boolean;
  dryRun?: boolean;
  log?: string;
  json?: boolean;
}

/** The options of `heal` in the order of its help. */
const commandOptions = [
  ...listed(objectiveSettings, teacherSettings, healingTextSettings, trainingSettings),
  ...listed({ ...healingRunSettings, dryRun: commandSettings.dryRun }),
];

/** What was done, for people; --json has all of it. */
function formatHealing(report: HealReport): string {
  const { healing, result, verification, output } = report;
  const before = healing.heldOut[0];
  return formatFields([
    ['result', output.path],
    ...healingFields(healing),
    [
      '  perplexity',
      `${before ? `${small(Math.exp(before.nll))} -> ` : ''}${small(result.perplexity)} (as written)`,
    ],
    ...(result.kl === undefined ? [] : [['  KL', `${small(result.kl)} nats (as written)`] as const]),
    [
      'verified',
      `written folder loaded again, logits differ by ${small(verification.maxLogitDifference)} at most (${verification.tokens} tokens)`,
    ],
    ['adapter', report.adapter.description],
    ['device memory', `${formatBytes(report.peakMemoryBytes)} at the most`],
    ['time', formatSeconds(report.seconds)],
  ]);
}

/** What a run would do and cost, for people. */
function formatHealingPlan({ memory, seconds, ...plan }: HealingPlan): string {
  return formatFields([
    ['plan', plan.summary],
    ['trained numbers', `${plan.parameters}`],
    ['device memory', `about ${formatBytes(memory.total)}`],
    ['  weights', formatBytes(memory.weights)],
    ['  training', `${formatBytes(memory.training)} (master values, gradients, two moments)`],
    ['  activations', formatBytes(memory.activations)],
    ['  held-out text', formatBytes(memory.heldOut)],
    ['time', `about ${formatSeconds(seconds.training + seconds.heldOut)}`],
    ['  training', formatSeconds(seconds.training)],
    ['  held-out text', formatSeconds(seconds.heldOut)],
    ['adapter', `${plan.adapter} (matrix product: ${formatRate(plan.matmulGflops, 'GFLOP')})`],
  ]);
}

const details = `Trains a pruned model by gradient descent: the paper's way to win back most of what a cut costs (docs/healing.md says when
it is worth it, and what it costs). --train chooses what changes: transform, the linear map of the MLP output before the cut,
which is folded into down_proj at the end; down-proj, that matrix itself; full, all weights. Layers below the cut run
without gradients. AdamW on f32 values, with a warm-up, half a cosine and clipping. The result has the model's own number
types, and nothing is added to it.

--objective kl trains towards the predictions of the model before pruning (--teacher), lm towards the next token of the text.
report.json, which prune writes, says which layers are patched; for other folders name them with --layer, counted in the
pruned model.

--log keeps the course of the run for a plot: {"step", "learningRate", "loss", "gradientNorm"} for every step,
{"step", "heldOut": {"nll", "kl"}} for every measurement. A resumed run writes the earlier lines again.

A checkpoint keeps the run every --checkpoint-every steps: the same command with --resume continues with the same
numbers as an uninterrupted run. A run that diverges ends with an error and leaves the last good checkpoint, which
--resume --finish writes as a model.`;

/** `heal MODEL OUT` */
export function healCommand(signal: AbortSignal): Command {
  const command = newCommand('heal', {
    summary: 'train a pruned model by gradient: the map at the cut, or all of it',
    details,
    args: [
      ['<model>', `the pruned model: ${MODEL_TEXT}`],
      ['[out]', 'the folder to write'],
    ],
    examples: [
      'rm-engine heal ./pruned ./healed --teacher ./SmolLM2-135M-Instruct --data chat.jsonl wiki.txt',
      'rm-engine heal ./pruned ./healed --train full --objective lm --data corpus.jsonl --steps 2000 --lr 1e-5',
      'rm-engine heal ./pruned ./healed --teacher ./model --data chat.jsonl --resume',
      'rm-engine heal ./pruned ./healed --teacher ./model --data chat.jsonl --dry-run',
    ],
  });
  addSettings(command, commandOptions)
    .option('--log <file>', 'write every step and measurement as a line of JSON')
    .option('--json', 'print one JSON object');
  return runs<HealCommandOptions>(withDownload(command), signal, (run, model, out) =>
    healModel(run, model as string, out as string | undefined),
  );
}

async function healModel(
  run: Run<HealCommandOptions>,
  model: string,
  out: string | undefined,
): Promise<void> {
  const { terminal, progress, signal, options: flags } = run;
  const { teacher, resume, dryRun, log, json } = flags;
  if (out === undefined && !dryRun) return run.usage('give the folder to write');
  const options = {
    ...(libraryOptions(healSettings, { ...flags }) as HealOptions),
    ...{ command: commandWords(healSettings), onProgress: progress, signal },
  };
  await findModels(run, [model, teacher]);
  const { checkHealRequest, heal, planHealing } = await import('../replaceme/index.js');
  // Before a device is opened: a wrong request should not cost that time.
  const { checkpoint } = await checkHealRequest(model, out, options);
  if (dryRun) {
    const plan = await withDevice(run, device => planHealing(model, out, { ...options, device }));
    if (json) terminal.json(plan);
    else terminal.data(formatHealingPlan(plan));
    return;
  }
  const { existsSync } = await import('node:fs');
  if (resume && !existsSync(checkpoint)) {
    terminal.note(`no checkpoint at ${checkpoint}: beginning with the first step`);
  }
  const inputs = [...options.data, ...(options.heldOut ?? [])];
  const onRecord =
    log === undefined
      ? undefined
      : await openHealingLog(log, {
          force: options.force === true || resume === true,
          protect: [...(await inputPaths([model, teacher], inputs)), out!, checkpoint],
        });
  const hooks = { ...options, ...(onRecord && { onRecord }) };
  const report = await withDevice(run, (device, again) =>
    heal(model, out!, { ...hooks, ...(again && { resume: true }), device }),
  );
  for (const warning of report.warnings) terminal.warn(onCommandLine(warning, 'rm-engine heal'));
  if (json) terminal.json(report);
  else terminal.data(formatHealing(report));
  terminal.note([nextSteps(teacher ?? model, out!, {})]);
}
