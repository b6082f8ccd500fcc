import type { Command } from 'commander';
import { formatBytes, formatSeconds } from '../engine/format.js';
import type { HealingPlan, HealOptions, HealReport } from '../replaceme/index.js';
import { formatFields } from '../replaceme/report/text/textTable.js';
import { withDevice } from './device/gpu.js';
import { defined } from './options/defined.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './options/models.js';
import { layerList, notNegative, oneOf, type Parser, positive, wholeNumber } from './options/optionTypes.js';
import { healingFields, small } from './prune/healingFields.js';
import { newCommand, runs } from './terminal/command.js';

interface HealCommandOptions extends ModelFlags {
  train: 'transform' | 'down-proj' | 'full';
  objective?: 'lm' | 'kl';
  teacher?: string;
  topK?: number | 'all';
  layer?: number[];
  data: string[];
  textField?: string;
  tokens?: number;
  sequenceLength?: number;
  eval?: string[];
  evalTokens?: number;
  evalEvery?: number;
  steps?: number;
  lr?: number;
  batchTokens?: number;
  microBatchTokens?: number;
  warmup?: number;
  weightDecay?: number;
  clip?: number;
  seed?: number;
  checkpoint?: string;
  checkpointEvery?: number;
  resume?: boolean;
  finish?: boolean;
  dryRun?: boolean;
  force?: boolean;
  json?: boolean;
}

const topK: Parser<number | 'all'> = text => (text === 'all' ? 'all' : wholeNumber(1)(text));

/** Settings of the command line as `heal` takes them; what is not given stays out. */
function healOptions(options: HealCommandOptions): HealOptions {
  const { train, objective, teacher, layer, data, textField, tokens, sequenceLength } = options;
  const { steps, batchTokens, microBatchTokens, warmup, weightDecay, clip, seed } = options;
  const { checkpoint, checkpointEvery, resume, finish, force } = options;
  return defined({
    ...{ train, objective, teacher, layers: layer, data, textField, tokens, sequenceLength },
    ...{ heldOut: options.eval, heldOutTokens: options.evalTokens, evaluateEvery: options.evalEvery },
    ...{ steps, learningRate: options.lr, batchTokens, microBatchTokens, warmup, weightDecay, clip, seed },
    ...{ checkpoint, checkpointEvery, resume, finish, force, topK: options.topK },
  }) as HealOptions;
}

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
    ['adapter', `${plan.adapter} (matrix product: ${plan.matmulGflops.toPrecision(3)} GFLOP/s)`],
  ]);
}

const details = `Training by gradient, after pruning: the paper's way to win back most of what a cut costs (docs/healing.md says when
it is worth it, and what it costs). --train says what changes: transform, the linear map of the MLP output before the cut, which is
folded into down_proj at the end; down-proj, that matrix itself; full, all weights. Layers below the cut are
run, not differentiated. AdamW on f32 values, with a warm-up, half a cosine and clipping; the result has the model's own
number types and nothing is added to it.

--objective kl asks for what the model before pruning (--teacher) would say, lm for the next token of the text. The
patched layers are known from report.json, which prune writes; --layer names them in other folders, counted in the
pruned model.

The run is kept in a checkpoint, every --checkpoint-every steps: the same command with --resume goes on with the same
numbers as if nothing had happened. A run that diverges ends with an error and leaves the last good checkpoint, which
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
  })
    .optionsGroup('What is trained:')
    .option(
      '--train <what>',
      'transform, down-proj or full',
      oneOf('transform', 'down-proj', 'full'),
      'transform',
    )
    .option('--objective <what>', 'kl or lm (default: kl where there is a teacher)', oneOf('lm', 'kl'))
    .option('--teacher <model>', 'the model before pruning')
    .option(
      '--top-k <count>',
      "of the teacher's tokens these count one by one, the rest as one; or all (default: 100)",
      topK,
    )
    .option('--layer <layers>', 'patched layers (default: as report.json says)', layerList)
    .optionsGroup('Texts:')
    .requiredOption('--data <files...>', 'texts to train on')
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tokens <count>', 'tokens to read of them at most (default: as all steps use)', wholeNumber(2))
    .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', wholeNumber(2))
    .option('--eval <files...>', 'texts to measure on (default: every tenth document of --data)')
    .option('--eval-tokens <count>', 'tokens of these at most (default: by the device)', wholeNumber(2))
    .option('--eval-every <count>', 'steps between measures (default: a tenth of all)', wholeNumber(1))
    .optionsGroup('Steps:')
    .option('--steps <count>', 'steps (default: 300)', wholeNumber(1))
    .option(
      '--lr <rate>',
      'learning rate at its highest (default: 3e-4, down-proj 1e-4, full 1e-5)',
      positive,
    )
    .option('--batch-tokens <count>', 'tokens of a step (default: by the device)', wholeNumber(2))
    .option('--micro-batch-tokens <count>', 'of these at a time (default: by the device)', wholeNumber(2))
    .option(
      '--warmup <count>',
      'steps until the learning rate is there (default: a twentieth)',
      wholeNumber(0),
    )
    .option('--weight-decay <share>', "AdamW's (default: 0)", notNegative)
    .option('--clip <number>', 'longest gradient (default: 1)', positive)
    .option('--seed <number>', 'of the order of the texts (default: 0)', wholeNumber(0))
    .optionsGroup('Run:')
    .option('--checkpoint <file>', 'keeps the run (default: OUT.checkpoint.safetensors)')
    .option(
      '--checkpoint-every <count>',
      'steps between checkpoints, 0 for none (default: 50)',
      wholeNumber(0),
    )
    .option('--resume', 'go on from the checkpoint, where there is one')
    .option('--finish', 'with --resume: write the model as the checkpoint has it')
    .option('--dry-run', 'print the plan with memory and time, and do nothing')
    .option('--force', 'replace the output folder and the checkpoint of an earlier run')
    .option('--json', 'print one JSON object');
  return runs<HealCommandOptions>(withDownload(command), signal, async (run, model, out) => {
    const { terminal, progress, options: given } = run;
    if (out === undefined && !given.dryRun) return run.usage('give the folder to write');
    const folder = model as string;
    const target = out as string | undefined;
    const options = {
      ...healOptions(given),
      ...{ command: ['rm-engine', ...process.argv.slice(2)], onProgress: progress, signal },
    };
    await findModels(run, [folder, given.teacher]);
    const { checkHealRequest, heal, planHealing } = await import('../replaceme/index.js');
    // Before a device is opened: a wrong request should not cost that time.
    const { checkpoint } = await checkHealRequest(folder, target, options);
    if (given.dryRun) {
      const plan = await withDevice(run, device => planHealing(folder, target, { ...options, device }));
      if (given.json) terminal.json(plan);
      else terminal.data(formatHealingPlan(plan));
      return;
    }
    const { existsSync } = await import('node:fs');
    if (given.resume && !existsSync(checkpoint)) {
      terminal.note(`no checkpoint at ${checkpoint}: beginning with the first step`);
    }
    const report = await withDevice(run, device => heal(folder, target!, { ...options, device }));
    for (const warning of report.warnings) terminal.warn(warning);
    if (given.json) terminal.json(report);
    else terminal.data(formatHealing(report));
  });
}
