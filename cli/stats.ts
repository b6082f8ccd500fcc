import { type Command, InvalidArgumentError } from 'commander';
import type { AccumulatedStatistics, MergedStatistics } from '../replaceme/index.js';
import { recipeSettings, runSettings, statisticsSettings } from '../replaceme/options/pruneSettings.js';
import { formatFields } from '../replaceme/report/text/textTable.js';
import { parseShard, type Shard } from '../replaceme/statistics/shard.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import type { Parser } from './options/optionTypes.js';
import { addSettings } from './options/settings.js';
import { pruneOptions } from './prune/options.js';
import { newCommand, type Run, runs } from './terminal/command.js';

interface StatsCommandOptions extends ModelFlags {
  shard?: Shard;
  json?: boolean;
}

const shard: Parser<Shard> = text => {
  const part = parseShard(text);
  if (!part) throw new InvalidArgumentError('Give k/K with k from 1 to K, such as 2/8.');
  return part;
};

const list = (names: readonly string[]): string => names.join(', ') || 'nothing: all sums were there';

/** What was summed and what comes next, for people. */
export function formatAccumulated(gathered: AccumulatedStatistics): string {
  const { path, shard: part, tokens, allTokens, windows, sums, complete } = gathered;
  return formatFields([
    ['result', path],
    ['shard', `${part.index} of ${part.of}: ${tokens} of ${allTokens} calibration tokens`],
    ...(windows
      ? [
          [
            'windows',
            windows
              .map(({ layer, count }) => `keep ${layer}, remove ${layer + 1}..${layer + count}`)
              .join('; '),
          ] as const,
        ]
      : []),
    ['summed', list(sums)],
    [
      'next',
      complete
        ? 'rm-engine stats merge, then rm-engine prune --statistics MERGED'
        : 'rm-engine stats merge, then rm-engine stats --statistics MERGED: what is left depends on the sums over all shards',
    ],
  ]);
}

/** What a merged file has, for people. */
export const formatMerged = ({ path, shards, sums, measures }: MergedStatistics): string =>
  formatFields([
    ['result', path],
    ['shards', shards === 0 ? 'none, files over all tokens' : `${shards}, all there`],
    ['sums', sums.join(', ') || 'none'],
    [
      'windows',
      measures.map(({ measure, count }) => `${measure} (windows of ${count})`).join(', ') || 'not measured',
    ],
  ]);

const details = `Sums over part k of K of the calibration batches (--shard k/K) what prune needs of these tokens, on any machine. Give every
shard the model and options of the prune that follows, --tokens and --batch-tokens among them, whose defaults differ
between devices. When all shards are done, rm-engine stats merge adds them up, and prune --statistics MERGED with the same
options runs no token: the sums are those of a single run.

Sums that depend on others take rounds: the next one is the same command with --statistics MERGED. First the distances,
where a selection finds the windows; then o_proj's sums of a refit (none with --attention-step 0, or in the first third of
the layers); then those of down_proj, or of a least-squares method, which need no round before. "next" in the output says
which it is (--json: complete). Merge every round together with the merged file of the one before.

Selections cosine, angular and block-influence are means over tokens. measured, perplexity and laco run changed models and
are refused: choose the layers by --window or --remove, or with rm-engine profile. Methods: refit, refit-heal, replaceme-ls,
replaceme-diagonal, replaceme-orthogonal. Of several windows stats sums the first; later ones, and healing, depend on its
result: prune computes them from all tokens.`;

/** `stats MODEL OUT`, `stats merge OUT FILES` */
export function statsCommand(signal: AbortSignal): Command {
  const stats = newCommand('stats', {
    summary: 'sums over parts of the calibration data, for prune on several machines',
    details: `rm-engine stats MODEL OUT --shard k/K is short for stats gather. docs/scale.md shows the way from shards to a pruned
model.`,
    examples: [
      'rm-engine stats gather --help',
      'rm-engine stats ./Llama-3.2-1B one.safetensors --shard 1/2 --method replaceme-ls --remove 9..12',
      'rm-engine stats merge all.safetensors one.safetensors two.safetensors',
    ],
  });
  stats.addCommand(accumulateCommand(signal), { isDefault: true });
  stats.addCommand(mergeCommand(signal));
  return stats;
}

function accumulateCommand(signal: AbortSignal): Command {
  const command = newCommand('stats gather', {
    summary: 'sum over one part of the calibration data',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['<file>', 'the statistics file to write'],
    ],
    examples: [
      'rm-engine stats ./Llama-3.2-1B one.safetensors --shard 1/2 --method replaceme-ls --remove 9..12 --calib a.jsonl',
      'rm-engine stats ./Llama-3.2-1B two.safetensors --shard 2/2 --method replaceme-ls --remove 9..12 --calib a.jsonl',
      'rm-engine stats merge all.safetensors one.safetensors two.safetensors',
      'rm-engine prune ./Llama-3.2-1B ./pruned --statistics all.safetensors --method replaceme-ls --remove 9..12 --calib a.jsonl',
    ],
  }).requiredOption('--shard <k/K>', 'which part of the calibration batches', shard);
  addSettings(command, [
    ...recipeSettings,
    { ...statisticsSettings.statistics, help: 'the merged file of the round before' },
    { ...runSettings.force, help: 'replace an earlier statistics file' },
  ]).option('--json', 'print one JSON object');
  return runs<StatsCommandOptions>(withDownload(command), signal, async (run, model, out) => {
    const { json, shard: part } = run.options;
    const options = {
      ...pruneOptions({ ...run.options }),
      ...{ shard: part!, onProgress: run.progress, signal },
    };
    const { accumulateStatistics, checkAccumulated, checkAccumulateRequest } = await import(
      '../replaceme/accumulate.js'
    );
    await findModels(run, [model as string]);
    // Before a device is opened: a wrong request should not cost that time.
    await checkAccumulateRequest(model as string, options);
    await checkAccumulated(model as string, out as string, options);
    const gathered = await withDevice(run, device =>
      accumulateStatistics(model as string, out as string, { ...options, device }),
    );
    if (json) run.terminal.json(gathered);
    else run.terminal.data(formatAccumulated(gathered));
  });
}

function mergeCommand(signal: AbortSignal): Command {
  const command = newCommand('stats merge', {
    summary: 'add up the sums of all shards',
    details: `Checks that all files are of the same model, tokenizer, calibration, options and version, and that every shard is there exactly
once. Sums are added in f64; those in 48 bits stay so. A merged file of an earlier round is taken in as it is. Needs no
GPU.`,
    args: [
      ['<file>', 'the statistics file to write'],
      ['<files...>', 'the files of all shards'],
    ],
    examples: [
      'rm-engine stats merge all.safetensors shard-*.safetensors',
      'rm-engine stats merge second.safetensors first.safetensors round2-*.safetensors',
    ],
  })
    .option('--force', 'replace an earlier statistics file')
    .option('--json', 'print one JSON object');
  const work = async (run: Run<{ force?: boolean; json?: boolean }>, out: string, files: string[]) => {
    const { mergeStatistics } = await import('../replaceme/statistics/mergeStatistics.js');
    const { force = false, json } = run.options;
    const merged = await mergeStatistics(out, files, { force, onProgress: run.progress, signal });
    if (json) run.terminal.json(merged);
    else run.terminal.data(formatMerged(merged));
  };
  return runs(command, signal, (run, out, files) => work(run, out as string, files as string[]));
}
