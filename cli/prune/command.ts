import type { Command } from 'commander';
import { formatBytes, formatSeconds } from '../../engine/format.js';
import type { PlannedPhase, PrunePlan, PruneReport, WindowScores } from '../../replaceme/index.js';
import { formatFields, formatTable } from '../../replaceme/report/text/textTable.js';
import { faithfulQuirks } from '../../replaceme/request/faithful.js';
import { withDevice } from '../device/gpu.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from '../device/kernelProfile.js';
import { storedPeak } from '../device/storedPeak.js';
import { defined } from '../options/defined.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from '../options/models.js';
import { notNegative } from '../options/optionTypes.js';
import { newCommand, runs } from '../terminal/command.js';
import { type PruneSettings, readPruneConfig, settingParsers } from './configFile.js';
import { healingFields, small } from './healingFields.js';
import { addPruneOptions, pruneOptions } from './options.js';
import { formatBeforeAfter, nextSteps } from './summary.js';

interface PruneCommandOptions
  extends Omit<PruneSettings, 'model' | 'out'>,
    Pick<ProfileOptions, 'profile'>,
    ModelFlags {
  config?: string;
  json?: boolean;
  resume?: boolean;
  restart?: boolean;
  checkpoint?: boolean;
  checkpointEvery?: number;
}

/**
 * The command line over the file; --layers, --ratio and --remove take the place of each other in it, --remove and
 * --window too, and both that of a selection.
 */
export function mergeSettings(file: PruneSettings, given: PruneSettings): PruneSettings {
  const said = defined(given);
  const { layers, ratio, remove, window, select, windows, ...rest } = file;
  const amount = given.layers !== undefined || given.ratio !== undefined;
  const place = given.remove !== undefined;
  return {
    ...rest,
    ...(!amount && !place && { layers, ratio }),
    ...(!place && given.select === undefined && { window }),
    ...(!place && given.window === undefined && { select, windows }),
    ...(!amount && given.window === undefined && { remove }),
    ...said,
  };
}

/** A list in lines of no more than `width` characters. */
function lines(list: string, width = 72): string {
  const found: string[] = [];
  for (const item of list.split(', ')) {
    const longer = found.length > 0 ? `${found.at(-1)}, ${item}` : item;
    if (found.length > 0 && longer.length <= width) found[found.length - 1] = longer;
    else found.push(item);
  }
  return found.join(',\n');
}

/** What was done, for people; --json has all of it. */
export function formatReport(report: PruneReport): string {
  const { calibration, selection, verification } = report;
  const distance = selection.distances?.[selection.windows[0]!.layer];
  return formatFields([
    ['result', report.output.path],
    ['layers', report.summary],
    ['chosen by', `${selection.by}${distance === undefined ? '' : ` (${small(distance)})`}`],
    ['method', `${report.method}${report.recipe.heal ? ', with closed-form healing' : ''}`],
    ...(report.healing ? healingFields(report.healing) : []),
    ...Object.entries(report.fit).map(
      ([name, value]) =>
        [
          `  ${name}`,
          typeof value === 'number' && !Number.isInteger(value) ? small(value) : lines(`${value}`),
        ] as const,
    ),
    ...(calibration.tokens > 0
      ? [['calibration', `${calibration.tokens} tokens in ${calibration.sequences} sequences`] as const]
      : []),
    [
      'verified',
      `what was written loaded again, ${report.imageEvaluation ? 'embeddings' : 'logits'} differ by ${small(verification.maxLogitDifference)} at most (${verification.tokens} tokens)`,
    ],
    ['adapter', report.adapter.description],
    [
      'device memory',
      `${formatBytes(report.peakMemoryBytes)} at the most${report.plan ? `, ${formatBytes(report.plan.memory.total)} planned` : ''}`,
    ],
    ['time', formatSeconds(report.seconds)],
  ]);
}

/** The sets of windows that were tried, best first, for --verbose. */
export function formatCandidates(candidates: readonly WindowScores[]): string {
  const right = (title: string) => ({ title, align: 'right' as const });
  return formatTable(
    [{ title: 'candidate' }, right('cosine'), right('residual'), right('KL'), right('nll'), { title: '' }],
    candidates.map(({ windows, cosine, residual, kl, nll, healed }) => [
      windows.map(({ layer, count }) => `(${layer}, ${count})`).join(' + '),
      ...[cosine, residual, kl, nll].map(value => value.toFixed(4)),
      healed ? 'healed' : '',
    ]),
  );
}

const weightsNote: Readonly<Record<PrunePlan['placement']['weights'], string>> = {
  device: '',
  streamed: ' (layer by layer, the next one on its way)',
  'one by one': ' (layer by layer, one at a time)',
};

/** 1.5 TFLOP, 20 GFLOP. */
const formatFlops = (flops: number): string =>
  flops >= 1e12 ? `${(flops / 1e12).toPrecision(3)} TFLOP` : `${(flops / 1e9).toPrecision(3)} GFLOP`;

/** What a phase moves and computes. */
const formatPhase = ({ name, bytes, flops, seconds }: PlannedPhase): [string, string] => {
  const parts = [
    ...(bytes > 0 ? [`${name === 'write' ? 'reads and writes' : 'reads'} ${formatBytes(bytes)}`] : []),
    ...(flops > 0 ? [formatFlops(flops)] : []),
  ];
  return [`  ${name}`, [formatSeconds(seconds), ...parts].join(', ')];
};

/** What a run would do and cost, for people. */
export function formatPlan(plan: PrunePlan): string {
  const { memory, phases, placement, rates } = plan;
  return formatFields([
    ['plan', plan.summary],
    ['method', plan.method],
    ['calibration', `${plan.tokens} tokens at most, ${plan.batchTokens} at a time`],
    ['device memory', `about ${formatBytes(memory.total)}`],
    ['  weights', `${formatBytes(memory.weights)}${weightsNote[placement.weights]}`],
    ['  activations', formatBytes(memory.activations)],
    ['  statistics', formatBytes(memory.statistics)],
    ...(memory.healing === undefined ? [] : [['  healing', formatBytes(memory.healing)] as const]),
    [
      '  streams',
      placement.states.place === 'host'
        ? `hidden states of all tokens wait in host memory as ${placement.states.dtype}`
        : `${formatBytes(memory.layerInputs)} (hidden states of all tokens)`,
    ],
    ...(memory.hiddenStates > 0
      ? [
          [
            '  hidden states',
            `${formatBytes(memory.hiddenStates)} before the fit, in place of the last two`,
          ] as const,
        ]
      : []),
    ...(memory.selectionSpare > 0
      ? [['  for speed', `${formatBytes(memory.selectionSpare)} while windows are selected`] as const]
      : []),
    ['host memory', `${formatBytes(memory.host + memory.staging)}, besides the program`],
    ...(memory.host > 0
      ? [['  waiting', `${formatBytes(memory.host)} (hidden states of all tokens)`] as const]
      : []),
    ['  staging', `${formatBytes(memory.staging)} (on the way to the device)`],
    ...(memory.disk > 0
      ? [
          [
            'disk',
            `${formatBytes(memory.disk)} beside the output until it is written (new weights of streamed layers)`,
          ] as const,
        ]
      : []),
    ['time', `about ${formatSeconds(phases.reduce((sum, { seconds }) => sum + seconds, 0))}`],
    ...phases.map(formatPhase),
    ...(plan.generated > 0
      ? [['  text', `${plan.generated} tokens that the model writes one by one, not counted`] as const]
      : []),
    [
      'rates',
      `matrix product ${rates.matmulGflops.toPrecision(3)} GFLOP/s, measured now; upload ${rates.uploadGigabytes.toPrecision(3)} GB/s, ${rates.uploadMeasured ? 'measured by bench peak' : 'assumed (rm-engine bench peak measures it)'}; disk ${rates.diskGigabytes} GB/s, assumed`,
    ],
    ['adapter', plan.adapter],
    ...plan.notes.map(note => ['note', note] as const),
  ]);
}

const details = `Layers are counted from 0. A window (i, n) keeps layer i, which is patched, and removes layers i+1 ... i+n. Without
--window or --remove the method's own selection looks for them on the calibration data. The result is an ordinary model: same architecture, fewer layers, no custom code; a GGUF file where the output ends in .gguf (docs/gguf.md), else a folder. It appears only when it is
complete and its logits have been compared with the model in memory.

Of CLIP the vision encoder is pruned; --calib and --eval then name folders of images (docs/vision.md).

Calibration files: .txt (documents separated by empty lines), .jsonl, .json, .parquet with a field "text" or "messages";
messages go through the model's chat template. --calib-task makes a text of each row of a benchmark: its prompt with the
right answer, for a model that is meant for this task (docs/tasks.md). --config takes the same options from a JSON or YAML file, by their names
here (layers, calib, sequence-length, also model and out) or by ReplaceMe's (model_path, layers_to_skip, max_length,
...); the command line wins.

--statistics keeps what was summed over the calibration data: another --alpha, another method of least squares or a window
that was fitted before then costs no forward pass. A file of another model, tokenizer or calibration is refused.

With --memory-limit, or on a device with little memory, a model that does not fit is pruned layer by layer, each uploaded when
all tokens go through it: with --select cosine, angular or block-influence (or --window, --remove). --dry-run says where weights
and hidden states will be, and what is done otherwise then.

A run of more than a minute keeps its state in OUT.checkpoint. Killed at any moment, the same command with --resume goes on from
there and ends with the same bytes; without a checkpoint --resume begins as usual.

--devices divides the calibration tokens among the GPUs of this machine, a process on each, and finishes on the first.
What can be divided: rm-engine stats gather --help.

--faithful is --method replaceme-ls --select angular as in mts-ai/ReplaceMe, for comparison with its results:
${faithfulQuirks.map(quirk => `  ${quirk}`).join('\n')}`;

/** `prune MODEL OUT` */
export function pruneCommand(signal: AbortSignal): Command {
  const command = newCommand('prune', {
    summary: 'remove layers and repair what they did',
    details,
    args: [
      ['[model]', MODEL_TEXT],
      ['[out]', 'the folder or .gguf file to write (may stand in --config)'],
    ],
    examples: [
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --calib chat.jsonl',
      'rm-engine prune ./Llama-3.2-1B ./pruned --ratio 25% --calib a.jsonl b.txt --tokens 100000',
      'rm-engine prune ./Llama-3.2-1B ./pruned --layers 4 --method refit-heal --calib a.jsonl b.txt',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --remove 12..18 --method plain',
      'rm-engine prune ./model.Q4_K_M.gguf ./pruned.gguf --layers 4 --calib chat.jsonl',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --faithful --calib chat.jsonl',
      'rm-engine prune ./Llama-3.1-8B ./pruned --layers 8 --method refit-heal --resume',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --dry-run',
      'rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --profile trace.json',
      'rm-engine prune ./clip-vit-base ./pruned --layers 3 --method replaceme-ls --calib photos/',
      'rm-engine prune --config replaceme.yaml --calib chat.jsonl',
    ],
  });
  addPruneOptions(command)
    .option('--statistics <file>', 'keep sums and distances in this file, and use those it has')
    .optionsGroup('Report:')
    .option(
      '--eval <files...>',
      'texts to compare the models on (default: what follows in the calibration files)',
    )
    .option(
      '--eval-tokens <count>',
      'first tokens of these (default: by the device)',
      settingParsers.evalTokens,
    )
    .option('--no-report', 'measure nothing for report.json and report.html')
    .optionsGroup('Run:')
    .option('--dry-run', 'print the plan with memory and time, and do nothing')
    .option(
      '--devices <names>',
      'all, or names of adapters with commas: each sums over a part of the tokens',
      settingParsers.devices,
    )
    .option('--resume', 'go on from what an interrupted run has left in OUT.checkpoint, if anything')
    .option('--restart', 'discard what an interrupted run has left there')
    .option(
      '--checkpoint-every <seconds>',
      'how often the state of the run is kept there (default: 60; 0: behind every batch)',
      notNegative,
    )
    .option('--no-checkpoint', 'keep nothing for --resume')
    .option('--force', 'replace the output folder, and the trace of --profile')
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--config <file>', 'JSON or YAML file with these options, or with those of ReplaceMe')
    .option('--json', 'print one JSON object');
  return runs<PruneCommandOptions>(withDownload(command), signal, async (run, modelArgument, outArgument) => {
    const { terminal, progress } = run;
    const { config, json, profile, download: _, quiet: _quiet, verbose: _verbose, ...words } = run.options;
    const { resume, restart, checkpoint, checkpointEvery, ...given } = words;
    const file = config === undefined ? { settings: {}, warnings: [] } : await readPruneConfig(config);
    const settings = mergeSettings(file.settings, {
      ...given,
      // Commander's default is no wish: the file may have one.
      report: given.report === false ? false : undefined,
      model: modelArgument as string | undefined,
      out: outArgument as string | undefined,
    });
    const { model, out, dryRun, devices, ...rest } = settings;
    if (model === undefined) return run.usage('give the model folder, or org/name');
    if (out === undefined && !dryRun) return run.usage('give the folder to write');
    const amounts = [rest.layers, rest.ratio, rest.remove].filter(amount => amount !== undefined);
    if (amounts.length !== 1) run.usage('give either --layers or --ratio or --remove');
    if (devices !== undefined && (rest.adapter !== undefined || rest.statistics !== undefined)) {
      run.usage('give --devices without --adapter and --statistics');
    }
    for (const warning of file.warnings) terminal.warn(warning);
    const command = ['rm-engine', ...process.argv.slice(2)];
    const options = {
      ...pruneOptions(rest),
      ...(resume && { resume }),
      ...(restart && { restart }),
      ...(checkpoint === false && { checkpoint }),
      ...(checkpointEvery !== undefined && { checkpointEvery }),
      ...{ command, onProgress: progress, onNotice: (text: string) => terminal.note(text), signal },
    };
    const { checkPruneRequest, prune, planPrune } = await import('../../replaceme/index.js');
    await findModels(run, [model]);
    // Before a device is opened: a wrong request should not cost that time.
    const { method } = await checkPruneRequest(model, out, options);
    const onDevice = { ...run, deviceOptions: { adapter: rest.adapter, memoryLimit: rest.memoryLimit } };
    if (dryRun) {
      const plan = await withDevice(onDevice, async device => {
        const peak = await storedPeak(device.info, terminal);
        return await planPrune(model, { ...options, device, uploadGigabytes: peak?.uploadGigabytes });
      });
      if (json) terminal.json(plan);
      else terminal.data(formatPlan(plan));
      return;
    }
    const reads =
      method.needsCalibration ||
      (rest.heal ?? 'none') !== 'none' ||
      (rest.window ?? rest.remove) === undefined;
    if (reads && !rest.calib && !rest.calibTask && rest.generate === undefined) {
      terminal.note(
        'no --calib given: calibrating with the small set that comes with rm-engine; your own texts will do better',
      );
    }
    const pruneOn = (adapter = rest.adapter, statistics = rest.statistics) =>
      withProfiledDevice(
        { ...run, deviceOptions: { adapter, memoryLimit: rest.memoryLimit } },
        { profile, force: rest.force },
        device => prune(model, out!, { ...options, ...(statistics && { statistics }), device }),
      );
    const { result: report, ...profiled } =
      devices === undefined
        ? await pruneOn()
        : await (await import('./devices.js')).onDevices(run, model, out!, { ...rest, devices }, pruneOn);
    for (const warning of report.warnings) terminal.warn(warning);
    const { candidates } = report.selection;
    if (candidates) terminal.detail(formatCandidates(candidates));
    if (json) terminal.json({ ...report, ...profiled });
    else {
      const { inspectModel } = await import('../../model/source/inspectModel.js');
      const [before, after] = [await inspectModel(model), await inspectModel(out!)];
      terminal.data(`${formatReport(report)}\n${formatBeforeAfter(report, before, after)}`);
    }
    terminal.note(nextSteps(model, out!, report));
  });
}
