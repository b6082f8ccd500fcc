import type { Command } from 'commander';
import type { KernelBenchmark } from '../../bench/kernels.js';
import type { ShapeSize } from '../../bench/largeShapes.js';
import { withDevice } from '../device/gpu.js';
import { storedPeak } from '../device/storedPeak.js';
import { wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

interface KernelsOptions extends MeasuringOptions {
  filter?: string;
  shapes?: ShapeSize;
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
Compilation, upload and readback do not count. On a GPU the shapes are those of 8B and 70B models, which fill it; on a
software adapter they are small. GFLOP/s and GB/s count the least arithmetic and traffic that a case
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
        .addOption(
          command
            .createOption(
              '--shapes <size>',
              'sizes of 8B and 70B models or small ones (default: large on a GPU)',
            )
            .choices(['small', 'large']),
        )
        .option(
          '--variants',
          'every variant that this device can run; the one that it would choose comes first',
        )
        .option('--samples <count>', 'samples per case', wholeNumber(5), 7),
    measure: async run => {
      const { options, terminal, progress, signal } = run;
      const { benchKernels } = await kernelBench();
      const { hasText, isTimedSomewhere, timedShapes } = await import('../../bench/largeShapes.js');
      const { filter = '', samples, shapes, variants = false } = options;
      if (!isTimedSomewhere(filter)) run.usage(`no case contains '${filter}'`);
      const profiled = { ...run, deviceOptions: { ...run.deviceOptions, profile: true } };
      const result = await withDevice(profiled, async device => {
        const { cases, reason, size } = timedShapes(device, shapes);
        const chosen = cases.filter(item => hasText(item, filter));
        if (chosen.length === 0)
          run.usage(
            `no ${size} case contains '${filter}': try --shapes ${size === 'large' ? 'small' : 'large'}`,
          );
        terminal.note(reason);
        return benchKernels(device, chosen, {
          ...{ samples, variants, shapes: reason },
          peak: await storedPeak(device.info, terminal),
          onProgress: progress,
          signal,
        });
      });
      for (const { kernel, name, reason } of result.skipped)
        terminal.warn(`${kernel} ${name} was not run: ${reason}`);
      return result;
    },
    text: async result => (await kernelBench()).kernelsText(result),
  });
