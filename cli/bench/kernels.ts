import type { Command } from 'commander';
import type { KernelBenchmark } from '../../bench/kernels.js';
import { withDevice } from '../device/gpu.js';
import { storedPeak } from '../device/storedPeak.js';
import { wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

interface KernelsOptions extends MeasuringOptions {
  filter?: string;
  samples: number;
  variants?: boolean;
}

const kernelBench = () => import('../../bench/kernels.js');

/** `bench kernels` */
export const kernelsCommand = (signal: AbortSignal): Command =>
  measuringCommand<KernelsOptions, KernelBenchmark>(signal, {
    name: 'kernels',
    summary: 'time, GFLOP/s and GB/s of every kernel',
    details: `Times cases of every kernel: the median of warm runs, by GPU timestamps if the adapter has them, else by wall clock.
Compilation, upload and readback do not count. GFLOP/s and GB/s count the least arithmetic and traffic that a case
needs. After rm-engine bench peak the table also shows the share of the nearer peak, f32 multiply-adds or memory; data
in a cache can exceed the peak of memory.`,
    examples: [
      'rm-engine bench kernels',
      'rm-engine bench kernels --filter matmul --samples 15',
      'rm-engine bench kernels --filter matmul --variants',
      'rm-engine bench kernels --save docs/benchmarks.md',
      'rm-engine bench kernels --compare',
    ],
    options: command =>
      command
        .option('--filter <text>', 'only kernels and cases with this text in "kernel case"')
        .option(
          '--variants',
          'every variant that this device can run; the one that it would choose comes first',
        )
        .option('--samples <count>', 'samples per case', wholeNumber(5), 7),
    measure: async run => {
      const { options, terminal, progress, signal } = run;
      const { kernelCases } = await import('../../kernels/cases/index.js');
      const { benchKernels } = await kernelBench();
      const cases = kernelCases.filter(
        ({ bench, kernel, name }) => bench && `${kernel} ${name}`.includes(options.filter ?? ''),
      );
      if (cases.length === 0) run.usage(`no case contains '${options.filter}'`);
      const profiled = { ...run, deviceOptions: { ...run.deviceOptions, profile: true } };
      const result = await withDevice(profiled, async device =>
        benchKernels(device, cases, {
          samples: options.samples,
          ...(options.variants && { variants: true }),
          peak: await storedPeak(device.info, terminal),
          onProgress: progress,
          signal,
        }),
      );
      for (const { kernel, name, reason } of result.skipped)
        terminal.warn(`${kernel} ${name} was not run: ${reason}`);
      return result;
    },
    text: async result => (await kernelBench()).kernelsText(result),
  });
