import type { Command } from 'commander';
import type { ComparisonRow } from '../replaceme/index.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './options/models.js';
import { each, positive, wholeNumber } from './options/optionTypes.js';
import { newCommand, runs } from './terminal/command.js';

interface CompareCommandOptions extends ModelFlags {
  layers: number[];
  methods: string[];
  eval: string[];
  evalTokens?: number;
  calib?: string[];
  calibTask?: string[];
  weights?: number[];
  textField?: string;
  tokens?: number;
  sequenceLength?: number;
  batchTokens?: number;
  select?: string;
  out?: string;
  report?: boolean;
  force?: boolean;
  json?: boolean;
}

/** A row in a line, for those who wait. */
export function formatRow(row: ComparisonRow): string {
  const name = `${row.method}, ${row.layers} removed`;
  if ('refused' in row) return `${name}: refused: ${row.refused}`;
  const scores = row.eval.map(
    ({ file, ppl, kl }) => `${file} perplexity ${ppl.toPrecision(4)}, KL ${kl.toPrecision(3)}`,
  );
  return `${name}: ${scores.join('; ')}`;
}

const details = `Every method at every number of removed layers selects layers, repairs the model and is evaluated in memory against the
model as it is, all on the same calibration texts. The first row is the model as it is. Perplexity, KL divergence from
it in nats and the share of equal most likely tokens are printed for every evaluation file; fit is the time of selection
and repair; tokens/s that of a forward pass without the output head.

--out keeps every row as soon as it is done, in DIR/rows, and at the end DIR/report.json, DIR/report.html and
DIR/compare.md. The same
command again goes on where it was stopped; more methods and layers may be added. Rows of other texts, settings, adapter
or version are refused, with --force made again. A method that cannot prune the model gets a row with the reason.`;

/** `compare MODEL` */
export function compareCommand(signal: AbortSignal): Command {
  const command = newCommand('compare', {
    summary: 'methods side by side on one model, in memory',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine compare ./SmolLM2-135M --layers 4 7 --methods plain,refit --eval wiki.txt',
      'rm-engine compare ./model --layers 7 --methods refit --calib a.jsonl --eval b.txt --out ./cmp',
    ],
  })
    .requiredOption('--layers <n...>', 'numbers of layers to remove', each(wholeNumber(1)))
    .requiredOption(
      '--methods <names...>',
      'methods, see: rm-engine methods',
      each(name => name),
    )
    .requiredOption('--eval <files...>', 'texts to evaluate on')
    .option('--eval-tokens <count>', 'first tokens of each of them (default: all)', wholeNumber(2))
    .option('--select <name>', 'one selection for all methods (default: of each method its own)')
    .option('--calib <files...>', 'calibration texts (default: a small set that comes with rm-engine)')
    .option('--calib-task <task=rows...>', 'rows of a benchmark as calibration texts (docs/tasks.md)')
    .option('--weights <numbers...>', 'how much a token of each of them counts', each(positive))
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tokens <count>', 'calibration tokens at most (default: by the device)', wholeNumber(1))
    .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', wholeNumber(2))
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', wholeNumber(1))
    .option('--out <dir>', 'folder that keeps rows and result')
    .option('--no-report', 'measure nothing for the report beside the rows')
    .option('--force', 'make rows again that --out holds from other texts or settings')
    .option('--json', 'print one JSON object');
  return runs<CompareCommandOptions>(withDownload(command), signal, async (run, model) => {
    const { terminal, progress, options } = run;
    const { eval: evaluation, evalTokens, calib, calibTask, layers, methods, json } = options;
    const { textField, weights, tokens, sequenceLength, batchTokens, select, out, report, force } = options;
    const request = {
      ...{
        layers,
        methods,
        evaluation,
        evaluationTokens: evalTokens,
        calibration: calib,
        calibrationTasks: calibTask,
        select,
        out,
        report,
        force,
      },
      ...{ textField, weights, tokens, sequenceLength, batchTokens },
      command: ['rm-engine', ...process.argv.slice(2)],
      onRow: (row: ComparisonRow) => {
        terminal.note(formatRow(row));
        progress.nextStep();
      },
      onProgress: progress,
      signal,
    };
    const { checkCompareRequest, compare, formatComparison } = await import('../replaceme/index.js');
    await findModels(run, [model as string]);
    // Before a device is opened: a wrong request should not cost that time.
    await checkCompareRequest(model as string, request);
    if (!calib && !calibTask) {
      terminal.note(
        'no --calib given: calibrating with the small set that comes with rm-engine; your own texts will do better',
      );
    }
    progress.steps(layers.length * methods.length);
    progress.nextStep();
    const result = await withDevice(run, device => compare(model as string, { ...request, device }));
    if (json) terminal.json(result);
    else terminal.data(formatComparison(result));
  });
}
