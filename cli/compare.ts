import type { Command } from 'commander';
import type { CompareOptions, ComparisonRow } from '../replaceme/index.js';
import {
  calibrationSettings,
  layerSettings,
  reportSettings,
  runSettings,
} from '../replaceme/options/pruneSettings.js';
import type { DeclaredSetting } from '../replaceme/options/setting.js';
import { wholeNumber } from '../replaceme/options/valueTypes.js';
import { pathArgument, shellWord } from '../replaceme/report/text/shellWord.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { each, parserOf } from './options/optionTypes.js';
import { addSettings, commandWords, libraryOptions, optionWords } from './options/settings.js';
import { newCommand, runs } from './terminal/command.js';
import { onCommandLine } from './terminal/failure.js';

interface CompareCommandOptions extends ModelFlags {
  layers: number[];
  methods?: string[];
  calib?: string[];
  calibTask?: string[];
  out?: string;
  report?: boolean;
  json?: boolean;
}

const {
  calibration,
  calibrationTasks,
  weights,
  textField,
  skipInvalid,
  date,
  tokens,
  sequenceLength,
  batchTokens,
} = calibrationSettings;

/** The settings of `prune` that hold for all rows. */
const sharedSettings: readonly DeclaredSetting[] = [
  {
    ...reportSettings.evaluationTokens,
    help: 'first tokens of each evaluation file',
    otherwise: 'all; what follows in the calibration files: by the device',
  },
  {
    ...layerSettings.select,
    help: 'one selection for all methods',
    otherwise: "each method's own",
  },
  { ...calibration, help: 'calibration texts' },
  ...[calibrationTasks, weights, textField, skipInvalid, date, tokens],
  // Rows are evaluated, which predicts a token of each sequence at the least.
  ...[{ ...sequenceLength, type: wholeNumber(2) }, batchTokens],
].map(setting => ({ ...setting, group: 'Options:' }));

/** A row in a line, for those who wait. */
export function formatRow(row: ComparisonRow): string {
  const name = `${row.method}, ${row.layers} removed`;
  if ('refused' in row) return `${name}: refused: ${row.refused}`;
  const scores = row.eval.map(
    ({ file, ppl, kl }) => `${file} perplexity ${ppl.toPrecision(4)}, KL ${kl.toPrecision(3)}`,
  );
  return `${name}: ${scores.join('; ')}`;
}

const details = `Selects layers and repairs the model by every method at every number of removed layers, and evaluates each result in memory
against the unpruned model, all on the same calibration texts. Without --eval it measures on what follows in the calibration
files. The first row is the unpruned model. For every evaluation file a
table has perplexity, KL divergence from the unpruned model in nats, and the share of equal most likely tokens; fit is
the time of selection and repair. A star marks the least KL for each number of layers; the command that prunes so is printed
last. The report of --out has windows and speeds too.

--out keeps every row as soon as it is done, in DIR/rows, and at the end DIR/report.json, DIR/report.html and
DIR/compare.md. The same command again continues where it stopped; you may add methods and layers. Rows of other texts,
settings, adapter or version are refused; --force makes them again. A method that cannot prune the model gets a row with
the reason.`;

/** `compare MODEL` */
export function compareCommand(signal: AbortSignal): Command {
  const command = newCommand('compare', {
    summary: 'methods side by side on one model, in memory',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine compare ./SmolLM2-135M --layers 4 --calib chat.jsonl',
      'rm-engine compare ./SmolLM2-135M --layers 4 7 --methods plain,refit --eval wiki.txt',
      'rm-engine compare ./model --layers 7 --methods refit --calib a.jsonl --eval b.txt --out ./cmp',
    ],
  })
    .requiredOption('--layers <n...>', 'numbers of layers to remove', each(parserOf(wholeNumber(1))))
    .option(
      '--methods <names...>',
      'methods, see: rm-engine methods (default: plain, replaceme-ls, refit, refit-heal)',
      each(name => name),
    )
    .option('--eval <files...>', 'texts to evaluate on (default: what follows in the calibration files)');
  addSettings(command, sharedSettings)
    .option('--out <dir>', 'folder that keeps rows and result')
    .option('--no-report', 'measure nothing for the report beside the rows')
    .option('--force', 'make rows again that --out holds from other texts or settings')
    .option('--json', 'print one JSON object');
  return runs<CompareCommandOptions>(withDownload(command), signal, async (run, model) => {
    const { terminal, progress, options } = run;
    const { layers, methods, out, report, calib, calibTask, json } = options;
    const shared = [...sharedSettings, reportSettings.evaluation, runSettings.force];
    const request = {
      ...(libraryOptions(shared, { ...options }) as CompareOptions),
      ...{ layers, out, ...(methods && { methods }), ...(report === false && { report: 'none' as const }) },
      command: commandWords([]),
      onRow: (row: ComparisonRow) => {
        terminal.note(formatRow(row));
        progress.nextStep();
      },
      onProgress: progress,
      onNotice: (text: string) => terminal.note(onCommandLine(text)),
      signal,
    };
    const { bestRows, checkCompareRequest, compare, formatComparison, usualMethods } = await import(
      '../replaceme/index.js'
    );
    await findModels(run, [model as string]);
    // Before a device is opened: a wrong request should not cost that time.
    await checkCompareRequest(model as string, request);
    if (!calib && !calibTask) {
      terminal.note(
        'no --calib given: calibrating with the small set that comes with rm-engine; your own texts will do better',
      );
    }
    progress.steps(layers.length * (methods ?? usualMethods).length);
    progress.nextStep();
    const result = await withDevice(run, device => compare(model as string, { ...request, device }));
    if (json) terminal.json(result);
    else terminal.data(formatComparison(result));
    for (const warning of result.warnings) terminal.warn(onCommandLine(warning, 'rm-engine compare'));
    const settings = optionWords(sharedSettings, { ...options });
    for (const row of bestRows(result)) {
      const words = ['rm-engine', 'prune', pathArgument(model as string), './pruned', '--method', row.method];
      const command = [...words, '--layers', `${row.layers}`, ...settings].map(shellWord).join(' ');
      terminal.note([`next: ${command}`]);
    }
  });
}
