import type { Command } from 'commander';
import type { Device } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import { withOutputFile } from '../../model/files/outputFolder.js';
import type { FileEvaluation } from '../../replaceme/report/schema/schema.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from '../device/kernelProfile.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from '../options/models.js';
import { wholeNumber } from '../options/optionTypes.js';
import { fileSequences, loadTextTools } from '../options/sequences.js';
import { newCommand, runs } from '../terminal/command.js';
import { formatHealth, type HealthCommandOptions, readHealthPrompts, runHealth } from './health.js';
import { openReport, type ReportOptions } from './report.js';
import { formatTasks, type LoadedModel, prepareTasks, runTasks, type TaskOptions } from './tasks.js';

interface EvalOptions extends ProfileOptions, TaskOptions, HealthCommandOptions, ReportOptions, ModelFlags {
  against?: string;
  tokens?: number;
  sequenceLength?: number;
  textField?: string;
  json?: boolean;
}

/** One line per file. */
export function formatEvaluations(results: readonly FileEvaluation[]): string {
  const compared = results.some(({ kl }) => kl !== undefined);
  const right = (title: string) => ({ title, align: 'right' as const });
  const columns = [{ title: 'file' }, right('tokens'), right('perplexity')];
  if (compared) columns.push(right('perplexity of other'), right('KL (nats)'), right('same top-1'));
  const rows = results.map(result => {
    const cells = [result.file, `${result.tokens}`, result.perplexity.toFixed(4)];
    if (compared) {
      cells.push(
        result.againstPerplexity?.toFixed(4) ?? '',
        result.kl?.toPrecision(4) ?? '',
        result.top1 === undefined ? '' : `${(100 * result.top1).toFixed(2)} %`,
      );
    }
    return cells;
  });
  return formatTable(columns, rows);
}

const details = `Files: .txt (documents separated by empty lines), .jsonl, .json, .parquet with a field "text" or "messages".
Texts follow one another, an empty line between, and are cut into sequences of --sequence-length tokens. Messages go
through the model's chat template; a conversation is a sequence of its own, or several where it is longer. Every
sequence is read from position 0. Perplexity is exp of the mean -log p(next token). With --against also the mean
KL divergence KL(other || model) and the share of places where both have the same most likely token; the other model
must have the same vocabulary.

Tasks: --tasks takes NAME=ROWS (a built-in task), a task file (.yaml), a file of rows whose name begins with a built-in
task's (hellaswag_val.jsonl), or a folder of such; rows are .jsonl, .json or .parquet as published. Prompts, scores and
standard errors are those of EleutherAI's lm-eval. Answers are kept: a stopped run goes on where it was. With --against
both models are evaluated. docs/tasks.md lists the tasks and tells how to write one.

Health: --health lets the model continue a few prompts by the most likely token, and counts how much it repeats
itself, which scores of tasks do not show.`;

/** Options that only tasks have. */
const flags = {
  fewshot: '--fewshot',
  fewshotRows: '--fewshot-rows',
  limit: '--limit',
  samples: '--samples',
} as const;

/** `eval MODEL FILE...` */
export function evalCommand(signal: AbortSignal): Command {
  const command = newCommand('eval', {
    summary: 'perplexity on texts, agreement with another model, tasks, health of generated text',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['[files...]', 'texts or conversations'],
    ],
    examples: [
      'rm-engine eval ./pruned wikitext.txt --tokens 4096',
      'rm-engine eval ./pruned chat.jsonl --against ./SmolLM2-135M-Instruct --json',
      'rm-engine eval ./pruned --tasks hellaswag=validation.parquet rows/arc_easy.jsonl --limit 200',
      'rm-engine eval ./pruned --tasks mmlu=test.jsonl --fewshot 5 --fewshot-rows dev.jsonl',
      'rm-engine eval ./pruned --health --against ./SmolLM2-135M-Instruct',
    ],
  })
    .option('--against <model>', 'also compare with this model')
    .option('--tokens <count>', 'most tokens to read of each file (default: all)', wholeNumber(2))
    .option(
      '--sequence-length <count>',
      'tokens of the longest sequence (default: 1024, at most the context)',
      wholeNumber(2),
    )
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', wholeNumber(1))
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tasks <task...>', 'tasks to evaluate')
    .option('--fewshot <count>', 'examples before every row (default: as the task says)', wholeNumber(0))
    .option(
      '--fewshot-rows <file...>',
      'rows to take examples from, or TASK=FILE (default: the rows themselves)',
    )
    .option('--limit <count>', 'rows of each task, or of each of its groups (default: all)', wholeNumber(1))
    .option('--cache <folder>', "where answers are kept (default: the user's cache folder)")
    .option('--no-cache', 'keep no answers, and use none')
    .option('--samples <file.jsonl>', 'write what each row was answered, a line per row')
    .option('--health [prompts]', 'greedy samples of built-in prompts, or of those in a text file')
    .option('--health-tokens <count>', 'new tokens of each sample at most (default: 128)', wholeNumber(1))
    .option('--report <dir>', 'write report.json and report.html into this folder')
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--force', 'replace the trace of --profile, the file of --samples and the report')
    .option('--json', 'print one JSON object');
  return runs<EvalOptions>(withDownload(command), signal, async (run, model, files) => {
    const { options, terminal, progress } = run;
    const folder = model as string;
    const given = files as string[];
    const { health, against: other } = options;
    if (given.length === 0 && !options.tasks && !health) {
      run.usage('nothing to evaluate: give texts, --tasks or --health');
    }
    for (const [name, flag] of Object.entries(flags)) {
      if (options[name as keyof typeof flags] !== undefined && !options.tasks)
        run.usage(`${flag} needs --tasks`);
    }
    const [{ Model }, { evaluate }] = await Promise.all([
      import('../../model/transformer/model.js'),
      import('../../model/evaluation/evaluate.js'),
    ]);
    await findModels(run, [folder, other]);
    const { inspectModel } = await import('../../model/evaluation/inspect.js');
    const tools = await loadTextTools(folder);
    const otherTools =
      other !== undefined && (options.tasks || health) ? await loadTextTools(other) : undefined;
    const context = (await inspectModel(folder)).contextLength;
    const sequenceLength = Math.min(options.sequenceLength ?? 1024, context);
    // All files are read before the models are loaded: a bad one should not cost that time.
    const texts: { file: string; sequences: number[][] }[] = [];
    for (const file of given) {
      const sequences = await fileSequences(file, tools, { ...options, sequenceLength });
      if (sequences.every(({ length }) => length < 2)) {
        throw new RmError('DATA_INVALID', `${file}: has fewer than two tokens`, 'Evaluate on longer text.');
      }
      texts.push({ file, sequences });
    }
    const tasks = await prepareTasks(run);
    const prompts = await readHealthPrompts(health);
    const work = async (device: Device, samplesFile?: string) => {
      const report = await openReport(options, device);
      const models = other ? 2 : 1;
      progress.steps(models + texts.length + models * (tasks.length + (health ? 1 : 0)));
      const load = async (path: string) => {
        progress.nextStep();
        using _ = report?.clock.enter('load');
        return await Model.load(device, path, { onProgress: progress });
      };
      using dense = await load(folder);
      using against = other ? await load(other) : undefined;
      const evaluating = report?.clock.enter('evaluate');
      const found: FileEvaluation[] = [];
      for (const { file, sequences } of texts) {
        progress.nextStep();
        const evaluation = await evaluate(dense, sequences, {
          ...(against && { against }),
          ...(options.batchTokens && { batchTokens: options.batchTokens }),
          onProgress: progress,
          signal,
        });
        found.push({ file, ...evaluation });
      }
      const loaded: LoadedModel = { folder, model: dense, tools };
      const second: LoadedModel | undefined = against &&
        otherTools && { folder: other!, model: against, tools: otherTools };
      const results = {
        files: found,
        ...(tasks.length > 0 && { tasks: await runTasks(run, tasks, samplesFile, loaded, second) }),
        ...(health && { health: await runHealth(run, prompts, loaded, second) }),
        adapter: device.info.description,
      };
      evaluating?.[Symbol.dispose]();
      const chat = tools.chat.available;
      await report?.write({ model: folder, against: other, chat, ...results });
      return results;
    };
    const onDevice = (samplesFile?: string) =>
      withProfiledDevice(run, options, device => work(device, samplesFile));
    const { result, ...profiled } =
      options.samples === undefined
        ? await onDevice()
        : await withOutputFile(options.samples, { force: options.force ?? false }, onDevice);
    if (options.json) {
      terminal.json({ model: folder, against: other, sequenceLength, ...result, ...profiled });
      return;
    }
    const tables = [
      ...(result.files.length > 0 ? [formatEvaluations(result.files)] : []),
      ...(result.tasks ? [formatTasks(result.tasks)] : []),
      ...(result.health ? [formatHealth(result.health)] : []),
    ];
    terminal.data(tables.join('\n'));
  });
}
