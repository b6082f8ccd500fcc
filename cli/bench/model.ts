import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import type { DecodeBenchmark } from '../../bench/decode.js';
import type { LoadBenchmark } from '../../bench/load.js';
import type { PrefillBenchmark } from '../../bench/prefill.js';
import type { PruneBenchmark } from '../../bench/prune.js';
import type { ServeBenchmark } from '../../bench/serve.js';
import type { StartupBenchmark } from '../../bench/startup.js';
import type { TogetherBenchmark } from '../../bench/together.js';
import { withDevice } from '../device/gpu.js';
import { requireTimestamps } from '../device/kernelProfile.js';
import { openTextReader } from '../inputs/textReader.js';
import { wholeNumber } from '../options/optionTypes.js';
import type { Run } from '../terminal/command.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

const modelArgument = [
  '[model]',
  'model folder (default: the small demo model that comes with rm-engine)',
] as const;

/** The folder of the argument or of the demo model, and its name for tables. */
export async function modelFolder(
  argument: string | string[] | undefined,
): Promise<{ folder: string; name: string }> {
  const { shippedPath } = await import('../../model/files/shippedPath.js');
  const folder = (argument as string | undefined) ?? shippedPath('demo-model');
  return { folder, name: basename(resolve(folder)) };
}

/** Opens the device, loads the model and measures. */
async function withModel<T>(
  run: Run<object>,
  folder: string,
  measure: (model: import('../../model/transformer/model.js').Model) => Promise<T>,
): Promise<T> {
  const { Model } = await import('../../model/transformer/model.js');
  return withDevice(run, async device => {
    using model = await Model.load(device, folder, { onProgress: run.progress });
    return await measure(model);
  });
}

const loadBench = () => import('../../bench/load.js');

/** `bench load [MODEL]` */
export const loadCommand = (signal: AbortSignal): Command =>
  measuringCommand<MeasuringOptions & { samples: number }, LoadBenchmark>(signal, {
    name: 'load',
    summary: "loading a model's weights, beside reading their files",
    details: `Times, one after the other in each sample: reading the files, loading the weights to the device through staging
buffers, and loading them by writes to the queue, as before there were such buffers.`,
    args: [modelArgument],
    examples: ['rm-engine bench load', 'rm-engine bench load ./SmolLM2-135M --samples 9'],
    options: command =>
      command.option('--samples <count>', 'samples after a warm-up; their medians count', wholeNumber(1), 5),
    measure: async (run, argument) => {
      const { options, signal } = run;
      const { folder, name } = await modelFolder(argument);
      const { benchLoad } = await loadBench();
      const { samples } = options;
      return withDevice(run, device => benchLoad(device, folder, name, { samples, signal }));
    },
    text: async result => (await loadBench()).loadText(result),
  });

const prefillBench = () => import('../../bench/prefill.js');

/** `bench prefill [MODEL]` */
export const prefillCommand = (signal: AbortSignal): Command =>
  measuringCommand<MeasuringOptions & { tokens: number; samples: number }, PrefillBenchmark>(signal, {
    name: 'prefill',
    summary: "tokens per second of one sequence, up to its last token's logits",
    args: [modelArgument],
    examples: ['rm-engine bench prefill', 'rm-engine bench prefill ./SmolLM2-135M --tokens 512'],
    options: command =>
      command
        .option('--tokens <count>', 'tokens of the sequence', wholeNumber(1), 512)
        .option('--samples <count>', 'samples after a warm-up; their median counts', wholeNumber(1), 7),
    measure: async (run, argument) => {
      const { options, signal } = run;
      const { folder, name } = await modelFolder(argument);
      const { benchPrefill } = await prefillBench();
      const { tokens, samples } = options;
      return withModel(run, folder, model => benchPrefill(model, name, { tokens, samples, signal }));
    },
    text: async result => (await prefillBench()).prefillText(result),
  });

const decodeBench = () => import('../../bench/decode.js');

interface DecodeOptions extends MeasuringOptions {
  tokens: number;
  prompt: number;
  sequenceLength: number;
}

/** `bench decode [MODEL]` */
export const decodeCommand = (signal: AbortSignal): Command =>
  measuringCommand<DecodeOptions, DecodeBenchmark>(signal, {
    name: 'decode',
    summary: 'tokens per second of generation, dispatches and submits per token, memory growth',
    details: `Generates greedily with the KV cache, in as many sequences as --tokens needs. Heap and device memory are compared
before and after, garbage collected both times: --tokens 10000 shows what long runs leave behind.`,
    args: [modelArgument],
    examples: ['rm-engine bench decode', 'rm-engine bench decode --tokens 10000'],
    options: command =>
      command
        .option('--tokens <count>', 'new tokens in total', wholeNumber(1), 256)
        .option('--prompt <count>', 'tokens of the prompt', wholeNumber(1), 16)
        .option('--sequence-length <count>', 'longest sequence, at most the context', wholeNumber(3), 512),
    measure: async (run, argument) => {
      const { options, signal } = run;
      const { tokens, prompt, sequenceLength } = options;
      if (prompt + 2 > sequenceLength) run.usage('--sequence-length must be longer than --prompt by 2');
      const { folder, name } = await modelFolder(argument);
      const { benchDecode } = await decodeBench();
      return withModel(run, folder, model =>
        benchDecode(model, name, {
          ...{ tokens, promptTokens: prompt, sequenceLength },
          ...{ onProgress: run.progress, signal },
        }),
      );
    },
    text: async result => (await decodeBench()).decodeText(result),
  });

const togetherBench = () => import('../../bench/together.js');

/** `bench together [MODEL]` */
export const togetherCommand = (signal: AbortSignal): Command =>
  measuringCommand<MeasuringOptions & { tokens: number; texts: number; samples: number }, TogetherBenchmark>(
    signal,
    {
      name: 'together',
      summary: 'tokens per second of sampled texts, one alone and several together',
      args: [modelArgument],
      examples: ['rm-engine bench together', 'rm-engine bench together ./SmolLM2-135M --texts 64'],
      options: command =>
        command
          .option('--tokens <count>', 'new tokens of each text', wholeNumber(1), 16)
          .option('--texts <count>', 'texts that are written together', wholeNumber(1), 32)
          .option('--samples <count>', 'samples after a warm-up; their medians count', wholeNumber(1), 3),
      measure: async (run, argument) => {
        const { options, signal } = run;
        const { folder, name } = await modelFolder(argument);
        const { benchTogether } = await togetherBench();
        const { tokens, texts: together, samples } = options;
        return withModel(run, folder, model =>
          benchTogether(model, name, { tokens, together, samples, signal }),
        );
      },
      text: async result => (await togetherBench()).togetherText(result),
    },
  );

const serveBench = () => import('../../bench/serve.js');

/** `bench serve [MODEL]` */
export const serveBenchCommand = (signal: AbortSignal): Command =>
  measuringCommand<MeasuringOptions & { tokens: number; requests: number; samples: number }, ServeBenchmark>(
    signal,
    {
      name: 'serve',
      summary: 'tokens per second of requests to a server, one alone and several at once',
      args: [modelArgument],
      examples: ['rm-engine bench serve', 'rm-engine bench serve ./SmolLM2-135M --requests 8'],
      options: command =>
        command
          .option('--tokens <count>', 'new tokens of each request', wholeNumber(1), 64)
          .option('--requests <count>', 'requests at the same time', wholeNumber(1), 4)
          .option('--samples <count>', 'samples after a warm-up; their medians count', wholeNumber(1), 3),
      measure: async (run, argument) => {
        const { options, signal } = run;
        const { folder, name } = await modelFolder(argument);
        const { benchServe } = await serveBench();
        const reader = await openTextReader(folder, {});
        const { tokens, requests, samples } = options;
        return withModel(run, folder, model =>
          benchServe(model, reader, name, { tokens, requests, samples, signal }),
        );
      },
      text: async result => (await serveBench()).serveText(result),
    },
  );

const pruneBench = () => import('../../bench/prune.js');

interface PruneBenchOptions extends MeasuringOptions {
  layers: number;
  method: string;
  calib?: string[];
  tokens: number;
  sequenceLength?: number;
  batchTokens?: number;
}

/** `bench prune [MODEL]` */
export const pruneBenchCommand = (signal: AbortSignal): Command =>
  measuringCommand<PruneBenchOptions, PruneBenchmark>(signal, {
    name: 'prune',
    summary: 'a whole prune by phase, with the cost of statistics and solve beside the forward pass',
    details: `Prunes into a temporary folder and removes it, after a short run that compiles the programs. Kernel times come from
timestamps of every dispatch, so the adapter must have timestamp queries.`,
    args: [modelArgument],
    examples: [
      'rm-engine bench prune',
      'rm-engine bench prune ./SmolLM2-135M --layers 7 --tokens 4096 --method refit-heal',
    ],
    options: command =>
      command
        .option('--layers <n>', 'layers to remove', wholeNumber(1), 4)
        .option('--method <name>', 'method, as for prune', 'replaceme-ls')
        .option('--calib <files...>', 'calibration texts (default: a small set that comes with rm-engine)')
        .option('--tokens <count>', 'most calibration tokens', wholeNumber(1), 4096)
        .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', wholeNumber(1))
        .option('--batch-tokens <count>', 'tokens per batch (default: by the device)', wholeNumber(1)),
    measure: async (run, argument) => {
      const { options, signal } = run;
      const { folder, name } = await modelFolder(argument);
      const { benchPrune } = await pruneBench();
      const { layers, method, calib, tokens, sequenceLength, batchTokens } = options;
      const deviceOptions = { ...run.deviceOptions, profile: true };
      return withDevice({ ...run, deviceOptions }, async device => {
        requireTimestamps(device, 'bench prune');
        return benchPrune(device, folder, name, {
          ...{ layers, method, tokens, onProgress: run.progress, signal },
          ...(calib && { calibration: calib }),
          ...(sequenceLength && { sequenceLength }),
          ...(batchTokens && { batchTokens }),
        });
      });
    },
    text: async result => (await pruneBench()).pruneText(result),
  });

const startupBench = () => import('../../bench/startup.js');

/** `bench startup [MODEL]` */
export const startupCommand = (signal: AbortSignal): Command =>
  measuringCommand<MeasuringOptions & { tokens: number }, StartupBenchmark>(signal, {
    name: 'startup',
    summary: 'time from the start of the process to the first result, with and without the driver',
    details: `Opens a device, loads a model and runs one forward pass, then repeats the last two to see their cost once everything
is compiled. Drivers keep compiled programs on disk: clear their caches (on Mesa set MESA_SHADER_CACHE_DISABLE=1) to
measure the very first start.`,
    args: [modelArgument],
    examples: ['rm-engine bench startup', 'rm-engine bench startup --json'],
    options: command => command.option('--tokens <count>', 'tokens of the forward pass', wholeNumber(1), 64),
    measure: async ({ options, deviceOptions }, argument) => {
      const { folder, name } = await modelFolder(argument);
      const { benchStartup } = await startupBench();
      return benchStartup(folder, name, { device: deviceOptions, tokens: options.tokens });
    },
    text: async result => (await startupBench()).startupText(result),
  });
