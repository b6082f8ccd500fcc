import type { Command } from 'commander';
import type { Device } from '../../engine/device.js';
import { withOutputFile } from '../../model/files/outputFile.js';
import { textKind } from '../../model/files/outputKind.js';
import { refuseOverlap } from '../../model/files/overlap.js';
import { FIXED_DATE } from '../../model/text/date.js';
import { leftOutWarnings } from '../../model/text/leftOut.js';
import type { TextReader } from '../../model/text/textReader.js';
import { cappedSequences, cappedTokens } from '../../replaceme/calibration/cappedTokens.js';
import type { FileEvaluation } from '../../replaceme/report/schema/schema.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from '../device/kernelProfile.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from '../inputs/models.js';
import { openTextReader } from '../inputs/textReader.js';
import { type DateFlag, withDateOption } from '../options/dateOption.js';
import { wholeNumber } from '../options/optionTypes.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { onCommandLine } from '../terminal/failure.js';
import {
  formatHealth,
  type HealthCommandOptions,
  type HealthOutcome,
  readHealthPrompts,
  runHealth,
} from './health.js';
import { checkReport, openReport, type ReportOptions } from './report.js';
import {
  formatTasks,
  type LoadedModel,
  prepareTasks,
  runTasks,
  type TaskOptions,
  type TaskOutcome,
  taskSources,
} from './tasks.js';
import { evaluateTexts, formatEvaluations, readTexts, type TextOptions } from './texts.js';

interface EvalOptions
  extends TextOptions,
    TaskOptions,
    HealthCommandOptions,
    ReportOptions,
    ProfileOptions,
    ModelFlags,
    DateFlag {
  against?: string;
  json?: boolean;
}

/** Results of the measurements that the command line names. */
interface EvalResults {
  readonly files: readonly FileEvaluation[];
  readonly tasks?: readonly TaskOutcome[];
  readonly health?: HealthOutcome;
  readonly adapter: string;
}

const details = `Texts: .txt (one text, measured as it is), or .jsonl, .json and .parquet with a field "text" or "messages" (docs/data.md).
Texts of rows are joined by empty lines. Text is cut into sequences of --sequence-length tokens. Messages go through the
model's chat template; each conversation is a sequence of its own, or several if it is longer. Every sequence starts at
position 0.
Perplexity is the exponential of the mean -log p(next token). --against adds the mean KL divergence KL(other || model)
and the share of positions where both models rank the same token first; both models must have the same vocabulary.

Tasks: --tasks accepts the NAME of a built-in task, whose rows are taken from the Hugging Face cache or with --download from
the hub, NAME=ROWS, a task file (.yaml), a file of rows whose name begins with the name of
a built-in task (hellaswag_val.jsonl), or a folder of these. Rows are .jsonl, .json or .parquet files as published.
Prompts, scores and standard errors are those of EleutherAI's lm-eval. Where a task says so (gsm8k), the model writes its
answer, which filters and exact match judge. Answers are cached, so a stopped run continues where it was. --against evaluates both models. docs/tasks.md lists the tasks and shows how to write one.

Health: --health lets the model continue a few prompts greedily and counts how often it repeats itself, which task
scores do not show.`;

/** `eval MODEL FILE...` */
export function evalCommand(signal: AbortSignal): Command {
  const command = newCommand('eval', {
    summary: 'measure perplexity, agreement with another model, benchmark tasks, repetition',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['[files...]', 'texts or conversations'],
    ],
    examples: [
      'rm-engine eval ./pruned wikitext.txt --tokens 4096',
      'rm-engine eval ./pruned chat.jsonl --against ./SmolLM2-135M-Instruct --json',
      'rm-engine eval ./pruned --tasks hellaswag=validation.parquet rows/arc_easy.jsonl --limit 200',
      'rm-engine eval ./pruned --tasks hellaswag arc_easy --download --limit 200',
      'rm-engine eval ./pruned --tasks mmlu=test.jsonl --fewshot 5 --fewshot-rows dev.jsonl',
      'rm-engine eval ./pruned --tasks gsm8k --download --apply-chat-template --limit 100',
      'rm-engine eval ./pruned --health --against ./SmolLM2-135M-Instruct',
    ],
  });
  addEvalOptions(command);
  return runs<EvalOptions>(withDownload(command, ', and rows of --tasks'), signal, (run, model, files) =>
    runEval(run, model as string, files as string[]),
  );
}

const addEvalOptions = (command: Command): Command =>
  withDateOption(command, FIXED_DATE)
    .option('--against <model>', 'another model to compare with')
    .option('--tokens <count>', 'read at most this many tokens of each file (default: all)', wholeNumber(2))
    .option(
      '--sequence-length <count>',
      'longest sequence in tokens (default: 1024, or the context if that is shorter)',
      wholeNumber(2),
    )
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', wholeNumber(1))
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--skip-invalid', 'leave out rows that cannot be used, and say how many')
    .option('--tasks <task...>', 'benchmark tasks to evaluate')
    .option(
      '--fewshot <count>',
      'examples shown before every row (default: as the task says)',
      wholeNumber(0),
    )
    .option(
      '--fewshot-rows <file...>',
      'take examples from this file; TASK=FILE with several tasks (default: from the rows themselves)',
    )
    .option(
      '--apply-chat-template',
      "write the tasks' prompts as conversations, by the model's chat template",
    )
    .option(
      '--fewshot-as-multiturn',
      'with a chat template: every example is a question and an answer (the default)',
    )
    .option('--no-fewshot-as-multiturn', "with a chat template: all examples stand in the user's one message")
    .option(
      '--system-instruction <text>',
      "what the tasks' prompts begin with; with a chat template the system message",
    )
    .option('--limit <count>', 'evaluate this many rows of each task or group (default: all)', wholeNumber(1))
    .option('--cache <folder>', "where answers are cached (default: the user's cache folder)")
    .option('--no-cache', 'neither read nor write cached answers')
    .option('--samples <file.jsonl>', "write the model's answers, one line per row")
    .option(
      '--output-path <dir>',
      "write the tasks' results there in the layout of lm-eval: MODEL/results_DATE.json",
    )
    .option('--health [prompts]', 'greedy samples for built-in prompts, or for the prompts in a text file')
    .option('--health-tokens <count>', 'longest sample in new tokens (default: 128)', wholeNumber(1))
    .option('--report <dir>', 'write report.json and report.html into this folder')
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--force', 'replace an earlier report, --samples file or --profile trace')
    .option('--json', 'print one JSON object');

async function runEval(run: Run<EvalOptions>, folder: string, files: readonly string[]): Promise<void> {
  checkOptions(run, files);
  await findModels(run, [folder, run.options.against]);
  const outputs = await checkOutputs(run.options, folder, files);
  const inputs = await readInputs(run, folder, files);
  const { samples, force = false } = run.options;
  const onDevice = (samplesFile?: string) =>
    withProfiledDevice(run, { ...run.options, protect: outputs('profile') }, device =>
      measure(run, inputs, device, samplesFile),
    );
  const { result, ...profile } =
    samples === undefined
      ? await onDevice()
      : await withOutputFile(samples, samplesKind, { force, protect: outputs('samples') }, onDevice);
  if (run.options.json) {
    const { sequenceLength, against, reader } = inputs;
    run.terminal.json({
      model: folder,
      against,
      sequenceLength,
      ...templateDateOf(reader),
      ...result,
      ...profile,
    });
  } else {
    run.terminal.data(formatResults(result));
  }
  for (const warning of leftOutWarnings(result.files)) run.terminal.warn(warning);
  const { tokens, sequenceLength } = run.options;
  const capped = [
    ...(files.length > 0 ? cappedSequences(sequenceLength, inputs.contextLength) : []),
    ...result.files.flatMap(file => cappedTokens('tokens', tokens, `the texts of ${file.file}`, file.tokens)),
  ];
  for (const warning of capped) run.terminal.warn(onCommandLine(warning));
}

/** The line of a row, as --samples begins with. */
const samplesKind = textKind(
  'a file of --samples',
  /^\{"model":"(?:[^"\\]|\\.)*","task":"(?:[^"\\]|\\.)*","row":/,
);

/**
 * Checks --report and --cache before any work.
 *
 * @returns what an output may not touch: the inputs and the other outputs.
 * @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED.
 */
async function checkOutputs(
  options: EvalOptions,
  folder: string,
  files: readonly string[],
): Promise<(output: 'samples' | 'profile' | 'report' | 'cache') => string[]> {
  const { against, tasks = [], fewshotRows = [], health, samples, report, profile, cache } = options;
  const prompts = typeof health === 'string' ? [health] : [];
  const inputs = await inputPaths([folder, against], [...files, ...tasks, ...fewshotRows, ...prompts]);
  const outputs = { samples, report, profile, cache };
  const around = (output: keyof typeof outputs) => [
    ...inputs,
    ...Object.entries(outputs).flatMap(([name, path]) =>
      name !== output && typeof path === 'string' ? [path] : [],
    ),
  ];
  await checkReport(options, around('report'));
  if (typeof cache === 'string') refuseOverlap(cache, around('cache'));
  return around;
}

/** Options that only apply to tasks. */
const taskFlags = {
  fewshot: '--fewshot',
  fewshotRows: '--fewshot-rows',
  limit: '--limit',
  samples: '--samples',
  outputPath: '--output-path',
  applyChatTemplate: '--apply-chat-template',
  systemInstruction: '--system-instruction',
} as const;

/** Ends the command if its options do not fit together. */
function checkOptions({ options, usage }: Run<EvalOptions>, files: readonly string[]): void {
  const { tasks, health } = options;
  if (files.length === 0 && !tasks && !health) {
    usage('nothing to evaluate: give texts, --tasks or --health');
  }
  for (const [name, flag] of Object.entries(taskFlags)) {
    if (options[name as keyof typeof taskFlags] !== undefined && !tasks) usage(`${flag} needs --tasks`);
  }
  if (options.fewshotAsMultiturn !== undefined && !options.applyChatTemplate) {
    usage(`--${options.fewshotAsMultiturn ? '' : 'no-'}fewshot-as-multiturn needs --apply-chat-template`);
  }
}

/** Reads all inputs before a device is opened: a bad file must not cost the time to load models. */
async function readInputs(run: Run<EvalOptions>, folder: string, files: readonly string[]) {
  const { options } = run;
  const { against, tasks, health } = options;
  const { inspectModel } = await import('../../model/source/inspectModel.js');
  const reader = await openTextReader(folder, options);
  const againstReader =
    against !== undefined && (tasks || health) ? await openTextReader(against, options) : undefined;
  const { contextLength } = await inspectModel(folder);
  const sequenceLength = Math.min(options.sequenceLength ?? 1024, contextLength);
  return {
    ...{ folder, reader, against, againstReader, contextLength, sequenceLength },
    texts: await readTexts(files, reader, { ...options, sequenceLength }),
    ...(await preparedFor(run, reader, againstReader)),
    prompts: await readHealthPrompts(health),
  };
}

/** The tasks' prompts for the model, and for the other one: both the same without a chat template. */
async function preparedFor(run: Run<EvalOptions>, reader: TextReader, againstReader: TextReader | undefined) {
  const sources = await taskSources(run);
  const tasks = await prepareTasks(run, sources, reader);
  const own = againstReader !== undefined && run.options.applyChatTemplate;
  return { tasks, againstTasks: own ? await prepareTasks(run, sources, againstReader) : tasks };
}

/** What the chat template took for the present; nothing where it prints no date. */
const templateDateOf = ({ chat }: TextReader) => (chat.date === null ? {} : { templateDate: chat.date });

/** Loads the models, runs the measurements and writes the report. */
async function measure(
  run: Run<EvalOptions>,
  inputs: Awaited<ReturnType<typeof readInputs>>,
  device: Device,
  samplesFile: string | undefined,
): Promise<EvalResults> {
  const { options, progress } = run;
  const { folder, reader, against, againstReader, texts, tasks, againstTasks, prompts } = inputs;
  const report = await openReport(options, device);
  const models = against ? 2 : 1;
  progress.steps(models + texts.length + models * (tasks.length + (options.health ? 1 : 0)));
  const { Model } = await import('../../model/transformer/model.js');
  const paths = [folder, ...(against ? [against] : [])];
  const offloads = await placements(run, device, paths, inputs);
  const load = async (path: string, index: number) => {
    progress.nextStep();
    using _ = report?.clock.enter('load');
    return await Model.load(device, path, { onProgress: progress, offload: offloads[index] ?? false });
  };
  await using model = await load(folder, 0);
  await using other = against ? await load(against, 1) : undefined;
  const evaluating = report?.clock.enter('evaluate');
  const first: LoadedModel = { folder, model, reader, tasks };
  const second: LoadedModel | undefined = other &&
    againstReader && { folder: against!, model: other, reader: againstReader, tasks: againstTasks };
  const results: EvalResults = {
    files: await evaluateTexts(run, texts, model, other),
    ...(tasks.length > 0 && { tasks: await runTasks(run, samplesFile, first, second) }),
    ...(options.health && { health: await runHealth(run, prompts, first, second) }),
    adapter: device.info.description,
  };
  evaluating?.[Symbol.dispose]();
  await report?.write({
    model: folder,
    against,
    chat: reader.chat.available,
    ...templateDateOf(reader),
    ...results,
  });
  return results;
}

/** How the models are loaded: layer by layer where they do not fit the memory limit. */
async function placements(
  { options, terminal }: Run<EvalOptions>,
  device: Device,
  paths: readonly string[],
  { sequenceLength, prompts }: Pick<Awaited<ReturnType<typeof readInputs>>, 'sequenceLength' | 'prompts'>,
) {
  const { placeModels } = await import('../../replaceme/planning/evalPlacement.js');
  const { batchTokens, health, healthTokens = 128 } = options;
  const { healthPrompts } = await import('../../model/generation/generationHealth.js');
  const texts = health === undefined ? 0 : (prompts ?? healthPrompts).length;
  // About twice the new tokens, with their prompts and what the cache grows ahead of need.
  const cachedTokens = 2 * texts * healthTokens;
  const offloads = await placeModels(device, paths, { sequenceLength, batchTokens, cachedTokens });
  for (const [i, path] of paths.entries()) {
    if (offloads[i])
      terminal.note(`${path} does not fit the memory limit: its layers go to the device in turn`);
  }
  return offloads;
}

/** A table for each kind of measurement. */
const formatResults = ({ files, tasks, health }: EvalResults): string =>
  [
    ...(files.length > 0 ? [formatEvaluations(files)] : []),
    ...(tasks ? [formatTasks(tasks)] : []),
    ...(health ? [formatHealth(health)] : []),
  ].join('\n');
