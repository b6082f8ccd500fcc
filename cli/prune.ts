import type { Command } from 'commander';
import { formatBytes } from '../engine/format.js';
import { formatFields } from '../engine/textTable.js';
import type { PrunePlan, PruneReport } from '../replaceme/index.js';
import { newCommand, runs } from './command.js';
import { methodNames, type PruneSettings, readPruneConfig, settingParsers } from './configFile.js';
import { load, withDevice } from './gpu.js';
import { PROFILE_FLAG, PROFILE_TEXT, type ProfileOptions, tracePath, withProfiledDevice } from './profile.js';
import { formatSeconds } from './progressReport.js';

interface PruneCommandOptions extends Omit<PruneSettings, 'model' | 'out'>, Pick<ProfileOptions, 'profile'> {
  config?: string;
  json?: boolean;
}

/** The command line over the file; a --ratio takes the place of the file's "layers" and the other way round. */
export function mergeSettings(file: PruneSettings, given: PruneSettings): PruneSettings {
  const amount = given.layers !== undefined || given.ratio !== undefined;
  const { layers, ratio, ...rest } = file;
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return { ...rest, ...(!amount && { layers, ratio }), ...said };
}

const small = (value: number): string => (value === 0 ? '0' : value.toPrecision(4));

/** What was done, for people; --json has all of it. */
export function formatReport(report: PruneReport): string {
  const { calibration, window, verification } = report;
  const distance = window.distances?.[window.window.layer];
  return formatFields([
    ['result', report.output.path],
    ['layers', report.summary],
    ['window', `chosen by ${window.by}${distance === undefined ? '' : ` (${small(distance)})`}`],
    ['method', report.method],
    ...Object.entries(report.fit).map(
      ([name, value]) =>
        [
          `  ${name}`,
          typeof value === 'number' && !Number.isInteger(value) ? small(value) : `${value}`,
        ] as const,
    ),
    ...(calibration.tokens > 0
      ? [['calibration', `${calibration.tokens} tokens in ${calibration.sequences} sequences`] as const]
      : []),
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
export function formatPlan(plan: PrunePlan): string {
  const { memory, seconds } = plan;
  return formatFields([
    ['plan', plan.summary],
    ['method', plan.method],
    ['calibration', `${plan.tokens} tokens at most, ${plan.batchTokens} at a time`],
    ['device memory', `about ${formatBytes(memory.total)}`],
    ['  weights', formatBytes(memory.weights)],
    ['  activations', formatBytes(memory.activations)],
    ['  statistics', formatBytes(memory.statistics)],
    ['  hidden states', formatBytes(memory.hiddenStates)],
    [
      'time',
      `about ${formatSeconds(seconds.distances + seconds.fit)}, besides reading ${formatBytes(plan.bytesRead)}`,
    ],
    ['  distances', formatSeconds(seconds.distances)],
    ['  fit', formatSeconds(seconds.fit)],
    ['adapter', `${plan.adapter} (matrix product: ${plan.matmulGflops.toPrecision(3)} GFLOP/s)`],
  ]);
}

const details = `Layers are counted from 0. A window (i, n) keeps layer i, which is patched, and removes layers i+1 ... i+n. Without
--window the one is taken whose removal changes the hidden states least (mean cosine distance over calibration data).
The result is an ordinary model folder: same architecture, fewer layers, no custom code. It appears only when it is
complete and its logits have been compared with the model in memory.

Calibration files: .txt (documents separated by empty lines), .jsonl, .json, .parquet with a field "text" or "messages";
messages go through the model's chat template. --config takes the same options from a JSON or YAML file, by their names
here (layers, calib, sequence-length, also model and out) or by ReplaceMe's (model_path, layers_to_skip, max_length,
...); the command line wins.`;

/** `prune MODEL OUT` */
export function pruneCommand(signal: AbortSignal): Command {
  const p = settingParsers;
  const command = newCommand('prune', {
    summary: 'remove layers and repair what they did',
    details,
    args: [
      ['[model]', 'model folder: config.json, tokenizer.json, *.safetensors (may stand in --config)'],
      ['[out]', 'the folder to write (may stand in --config)'],
    ],
    examples: [
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --calib chat.jsonl',
      'rm-engine prune ./Llama-3.2-1B ./pruned --ratio 25% --calib a.jsonl b.txt --tokens 100000',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --window 11 --method plain',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --dry-run',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --profile trace.json',
      'rm-engine prune --config replaceme.yaml --calib chat.jsonl',
    ],
  })
    .option('--layers <n>', 'number of layers to remove', p.layers)
    .option('--ratio <share>', 'share of the layers to remove, such as 0.25 or 25%', p.ratio)
    .option('--window <i>', 'the layer that stays before the removed ones (default: the best)', p.window)
    .option('--method <name>', `${methodNames.join(' or ')} (default: ${methodNames[0]})`, p.method)
    .option('--alpha <number>', 'ridge of the least squares (default: 0)', p.alpha)
    .option('--calib <files...>', 'calibration texts (default: a small set that comes with rm-engine)')
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tokens <count>', 'calibration tokens at most (default: by the device)', p.tokens)
    .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', p.sequenceLength)
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', p.batchTokens)
    .option('--dry-run', 'print the plan with memory and time, and do nothing')
    .option('--force', 'replace the output folder, and the trace of --profile')
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--config <file>', 'JSON or YAML file with these options, or with those of ReplaceMe')
    .option('--json', 'print one JSON object');
  return runs<PruneCommandOptions>(command, signal, async (run, modelArgument, outArgument) => {
    const { terminal, progress } = run;
    const { config, json, profile, quiet: _quiet, verbose: _verbose, ...given } = run.options;
    const file = config === undefined ? { settings: {}, warnings: [] } : await readPruneConfig(config);
    const settings = mergeSettings(file.settings, {
      ...given,
      model: modelArgument as string | undefined,
      out: outArgument as string | undefined,
    });
    const { model, out, calib, dryRun, ...rest } = settings;
    if (model === undefined) return run.usage('give the model folder');
    if (out === undefined && !dryRun) return run.usage('give the folder to write');
    if ((rest.layers === undefined) === (rest.ratio === undefined)) {
      run.usage('give either --layers or --ratio');
    }
    for (const warning of file.warnings) terminal.warn(warning);
    const options = { ...rest, calibration: calib, onProgress: progress, signal };
    const { checkPruneRequest, prune, planPrune } = await load(() => import('../replaceme/index.js'));
    // Before a device is opened: a wrong request should not cost that time.
    await checkPruneRequest(model, out, options);
    const onDevice = { ...run, deviceOptions: { adapter: rest.adapter, memoryLimit: rest.memoryLimit } };
    if (dryRun) {
      const plan = await withDevice(onDevice, device => planPrune(model, { ...options, device }));
      if (json) terminal.json(plan);
      else terminal.data(formatPlan(plan));
      return;
    }
    if (!calib && (rest.method !== 'plain' || rest.window === undefined)) {
      terminal.note(
        'no --calib given: calibrating with the small set that comes with rm-engine; your own texts will do better',
      );
    }
    const { result: report, ...profiled } = await withProfiledDevice(
      onDevice,
      { profile, force: rest.force },
      device => prune(model, out!, { ...options, device }),
    );
    for (const warning of report.warnings) terminal.warn(warning);
    if (json) terminal.json({ ...report, ...profiled });
    else terminal.data(formatReport(report));
  });
}
