import type { Command } from 'commander';
import type { Device } from '../../engine/device.js';
import { refuseOverlap } from '../../model/files/overlap.js';
import type { PruneOptions, PruneReport, PruneRequest } from '../../replaceme/index.js';
import { faithfulQuirks } from '../../replaceme/options/faithfulQuirks.js';
import { pruneSettings } from '../../replaceme/options/pruneSettings.js';
import { needsCalibration } from '../../replaceme/request/needs.js';
import { withDevice } from '../device/gpu.js';
import {
  checkTrace,
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  type ProfileSummary,
  tracePath,
  withProfiledDevice,
} from '../device/kernelProfile.js';
import { storedPaces } from '../device/storedPaces.js';
import { storedPeak } from '../device/storedPeak.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from '../inputs/models.js';
import { addSettings, commandWords, givenFlags } from '../options/settings.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { onCommandLine } from '../terminal/failure.js';
import { mergeFlags, readPruneConfig } from './configFile.js';
import { formatPlan } from './formatPlan.js';
import { formatCandidates, formatDetails } from './formatReport.js';
import { budgetFlags, commandOptions, type PruneFlags, pruneOptions } from './options.js';
import { formatResult, nextSteps } from './summary.js';

/** Options that no configuration file has. */
interface PruneCommandOptions extends Pick<ProfileOptions, 'profile'>, ModelFlags {
  config?: string;
  json?: boolean;
}

/** A prune that the command line and the configuration file describe together. */
interface RequestedPrune {
  readonly model: string;
  /** Undefined where only a plan is printed. */
  readonly out: string | undefined;
  readonly flags: PruneFlags;
  readonly options: PruneOptions;
  readonly request: PruneRequest;
  /** What the trace of --profile may not touch. */
  readonly protect: readonly string[];
}

const details = `Layers are counted from 0. A window (i, n) keeps layer i, which is patched, and removes layers i+1 ... i+n. Without
--window or --remove the method's own selection finds the windows on the calibration data. The result is an ordinary model:
same architecture, fewer layers, no custom code; a GGUF file where the output ends in .gguf (docs/gguf.md), else a folder. It
appears only when it is complete and its logits have been compared with the model in memory.

Of a CLIP, SigLIP or ViT model prune changes the vision encoder; --calib and --eval then name folders of images (docs/vision.md).

Calibration files: .txt (documents separated by empty lines), .jsonl, .json, .parquet with a field "text" or "messages";
messages go through the model's chat template. --calib-task makes a text of each row of a benchmark, its prompt with the
right answer, for a model that is meant for this task (docs/tasks.md). --config reads the same options from a JSON or YAML
file, by their names here (layers, calib, sequence-length, also model and out) or by ReplaceMe's (model_path,
layers_to_skip, max_length, ...); the command line wins. docs/options.md describes every option.

--statistics keeps the sums over the calibration data in a file. A later run needs no forward pass where that file has its
windows: --alpha and the method of least squares may then differ. A file of another model, tokenizer or calibration is
refused.

With --memory-limit, or on a device with little memory, prune works layer by layer where the model does not fit: it
uploads one layer, takes all tokens through it, and goes on to the next. That needs --select cosine, angular or
block-influence (or --window, --remove). --dry-run says where weights and hidden states will be, and what else changes.

A run of more than a minute keeps its state in OUT.checkpoint. After a kill at any moment, the same command with --resume
continues from there and ends with the same bytes; without a checkpoint --resume begins as usual.

--devices divides the calibration tokens among the GPUs of this machine, a process on each, and finishes on the first.
What can be divided: rm-engine stats gather --help.

--faithful means --method replaceme-ls --select angular as in mts-ai/ReplaceMe, for comparison with its results:
${faithfulQuirks.map(quirk => `  ${onCommandLine(quirk)}`).join('\n')}`;

/** `prune MODEL OUT` */
export function pruneCommand(signal: AbortSignal): Command {
  const command = newCommand('prune', {
    summary: 'remove layers and repair the model',
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
  addSettings(command, commandOptions)
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--config <file>', 'JSON or YAML file with these options, or with those of ReplaceMe')
    .option('--json', 'print one JSON object');
  return runs<PruneCommandOptions>(withDownload(command), signal, async (run, model, out) => {
    const requested = await request(run, model as string | undefined, out as string | undefined);
    if (requested.flags.dryRun) return printPlan(run, requested);
    noteDefaultTexts(run, requested);
    const { result, ...profiled } = await pruned(run, requested);
    await printReport(run, requested, result, profiled);
  });
}

/** Those that say how many layers go. */
const amountFlags = ['layers', 'ratio', 'remove', ...budgetFlags] as const;

/** Reads the command line over the configuration file, and checks both before a device is opened. */
async function request(
  run: Run<PruneCommandOptions>,
  modelArgument: string | undefined,
  outArgument: string | undefined,
): Promise<RequestedPrune> {
  const { terminal, progress, signal, options: words } = run;
  const file = words.config === undefined ? undefined : await readPruneConfig(words.config);
  const flags = mergeFlags(file?.flags ?? {}, {
    ...givenFlags([...pruneSettings, ...commandOptions], { ...words }),
    ...(modelArgument !== undefined && { model: modelArgument }),
    ...(outArgument !== undefined && { out: outArgument }),
  });
  const { model, out, devices } = flags;
  if (model === undefined) return run.usage('give the model folder, or org/name');
  if (out === undefined && !flags.dryRun) return run.usage('give the folder to write');
  if (flags.assumeDevice !== undefined && !flags.dryRun) run.usage('--assume-device goes with --dry-run');
  const amounts = amountFlags.filter(name => flags[name] !== undefined);
  if (amounts.length !== 1) {
    run.usage(
      'give one of --layers, --ratio, --remove, --max-kl, --keep-top1, --target-size and --target-parameters',
    );
  }
  if (devices !== undefined && budgetFlags.includes(amounts[0] as never)) {
    run.usage('give --devices with --layers, --ratio or --remove');
  }
  if (devices !== undefined && (flags.adapter !== undefined || flags.statistics !== undefined)) {
    run.usage('give --devices without --adapter and --statistics');
  }
  for (const warning of file?.warnings ?? []) terminal.warn(warning);
  const options: PruneOptions = {
    ...pruneOptions(flags),
    command: commandWords(pruneSettings),
    onNotice: text => terminal.note(onCommandLine(text)),
    ...{ onProgress: progress, signal },
  };
  const { checkPruneRequest } = await import('../../replaceme/index.js');
  await findModels(run, [model]);
  const inputs = await inputPaths(
    [model],
    [words.config, ...(flags.calib ?? []), ...(flags.calibTask ?? [])],
  );
  const others = [out, flags.statistics].filter(path => path !== undefined);
  const protect = [...inputs, ...others];
  await checkTrace({ ...flags, profile: words.profile }, protect);
  const needed = flags.assumeDevice === undefined ? 'needed' : 'described';
  if (out !== undefined && words.config !== undefined) refuseOverlap(out, [words.config]);
  return {
    model,
    out,
    flags,
    options,
    protect,
    request: await checkPruneRequest(model, out, options, needed),
  };
}

const deviceOptionsOf = ({ adapter, memoryLimit }: PruneFlags) => ({ adapter, memoryLimit });

async function namedDevice(nameOrFile: string) {
  const { assumedDevice } = await import('../../replaceme/planning/assumedDevice.js');
  return await assumedDevice(nameOrFile);
}

async function printPlan(
  run: Run<PruneCommandOptions>,
  { model, flags, options }: RequestedPrune,
): Promise<void> {
  const { planPrune } = await import('../../replaceme/index.js');
  const assume = flags.assumeDevice === undefined ? undefined : await namedDevice(flags.assumeDevice);
  const plan = assume
    ? await planPrune(model, { ...options, assume })
    : await withDevice({ ...run, deviceOptions: deviceOptionsOf(flags) }, async device => {
        const peak = await storedPeak(device.info, run.terminal);
        const paces = await storedPaces(device.info, run.terminal);
        return await planPrune(model, { ...options, device, paces, uploadGigabytes: peak?.uploadGigabytes });
      });
  if (run.options.json) run.terminal.json(plan);
  else run.terminal.data(formatPlan(plan));
}

/** Says so where a run calibrates with the small set of the package. */
function noteDefaultTexts({ terminal }: Run<object>, { flags, request }: RequestedPrune): void {
  if (needsCalibration(request) && !flags.calib && !flags.calibTask && flags.generate === undefined) {
    terminal.note(
      'no --calib given: calibrating with the small set that comes with rm-engine; your own texts will do better',
    );
  }
}

/** Prunes on one device, or on those of --devices. */
async function pruned(
  run: Run<PruneCommandOptions>,
  { model, out, flags, options, protect }: RequestedPrune,
): Promise<{ result: PruneReport; profile?: ProfileSummary }> {
  const { prune } = await import('../../replaceme/index.js');
  const pruneOn = (adapter = flags.adapter, statistics = flags.statistics) =>
    withProfiledDevice(
      { ...run, deviceOptions: { adapter, memoryLimit: flags.memoryLimit } },
      { profile: run.options.profile, force: flags.force, protect },
      async (device: Device, again: boolean) => {
        const resume = again && options.checkpoint !== false ? { resume: true, restart: false } : {};
        const paces = await storedPaces(device.info, run.terminal);
        // Timing every dispatch takes time itself.
        const kept = {
          ...(statistics && { statistics }),
          ...resume,
          ...(run.options.profile ? {} : { paces }),
        };
        return await prune(model, out!, { ...options, ...kept, device });
      },
    );
  const { devices } = flags;
  if (devices === undefined) return await pruneOn();
  const { onDevices } = await import('./devices.js');
  return await onDevices(run, model, out!, { ...flags, devices }, pruneOn);
}

async function printReport(
  { terminal, options }: Run<PruneCommandOptions>,
  { model, out }: RequestedPrune,
  report: PruneReport,
  profiled: { profile?: ProfileSummary },
): Promise<void> {
  for (const warning of report.warnings) terminal.warn(onCommandLine(warning));
  const { candidates } = report.selection;
  if (candidates) terminal.detail(formatCandidates(candidates));
  terminal.detail(formatDetails(report));
  if (options.json) terminal.json({ ...report, ...profiled });
  else {
    const { inspectModel } = await import('../../model/source/inspectModel.js');
    const [before, after] = [await inspectModel(model), await inspectModel(out!)];
    terminal.data(formatResult(report, { before, after, columns: terminal.columns('stdout') }));
  }
  terminal.note([nextSteps(model, out!, report.model)]);
}
