import { type Command, InvalidArgumentError } from 'commander';
import type { KernelBenchmark } from '../../bench/kernels.js';
import type { ShapeSize } from '../../bench/largeShapes.js';
import type { ProductShape } from '../../bench/ownCases.js';
import type { Device } from '../../engine/device.js';
import { withDevice } from '../device/gpu.js';
import { storedPeak } from '../device/storedPeak.js';
import { type Parser, wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

type Shapes = ShapeSize | readonly ProductShape[];

interface KernelsOptions extends MeasuringOptions {
  filter?: string;
  shapes?: Shapes;
  cases?: string;
  samples: number;
  variants?: boolean;
}

/** `small`, `large`, or extents such as 64x576x1536, separated by commas. */
const readShapes: Parser<Shapes> = Object.assign(
  (text: string): Shapes => {
    if (text === 'small' || text === 'large') return text;
    return text.split(',').map(word => {
      const [, m, n, k] = (/^(\d+)x(\d+)x(\d+)$/.exec(word.trim()) ?? []).map(Number);
      if (m && n && k) return { m, n, k };
      throw new InvalidArgumentError('Give small, large, or products as MxNxK, such as 64x576x1536.');
    });
  },
  { choices: ['small', 'large'] },
);

const kernelBench = () => import('../../bench/kernels.js');

/** `bench kernels` */
export const kernelsCommand = (signal: AbortSignal): Command =>
  measuringCommand<KernelsOptions, KernelBenchmark>(signal, {
    name: 'kernels',
    summary: 'time, GFLOP/s and GB/s of every kernel',
    details: `Times cases of every kernel: the median of warm runs, by GPU timestamps if the adapter has them, else by wall clock.
Compilation, upload and readback do not count. On a GPU the shapes are those of 8B and 70B models, which fill it; on a
software adapter they are small. GFLOP/s and GB/s count the least arithmetic and traffic that a case
needs. Cases of your own are timed alone: products by their extents, or what a module exports as \`cases\` (docs/engine.md).
After rm-engine bench peak the table also shows the share of the nearer peak, f32 multiply-adds or memory; data
in a cache can exceed the peak of memory.`,
    examples: [
      'rm-engine bench kernels',
      'rm-engine bench kernels --filter matmul --samples 15',
      'rm-engine bench kernels --filter matmul --variants',
      'rm-engine bench kernels --shapes 64x576x1536,1x4096x4096 --cases mine.mjs',
      'rm-engine bench kernels --save docs/benchmarks.md',
      'rm-engine bench kernels --compare',
    ],
    options: command =>
      command
        .option('--filter <text>', 'only kernels and cases with this text in "kernel case"')
        .option(
          '--shapes <shapes>',
          'small; large: those of 8B and 70B models (default: large on a GPU); or products MxNxK of your own',
          readShapes,
        )
        .option('--cases <file>', 'time the cases that a JavaScript module exports')
        .option(
          '--variants',
          'every variant that this device can run; the one that it would choose comes first',
        )
        .option('--samples <count>', 'samples per case', wholeNumber(5), 7),
    measure: async run => {
      const { options, terminal, progress, signal } = run;
      const { measure } = await kernelBench();
      const { hasText, isTimedSomewhere } = await import('../../bench/largeShapes.js');
      const { filter = '', samples, shapes, cases: path, variants = false } = options;
      const isOwn = path !== undefined || typeof shapes === 'object';
      if (!isOwn && !isTimedSomewhere(filter)) run.usage(`no case contains '${filter}'`);
      if (path !== undefined && typeof shapes === 'string')
        run.usage('--cases are timed alone: leave --shapes out, or give products as MxNxK');
      const profiled = { ...run, deviceOptions: { ...run.deviceOptions, profile: true } };
      const result = await withDevice(profiled, async device => {
        const { cases, reason } = await timedCases(device, shapes, path);
        const chosen = cases.filter(item => hasText(item, filter));
        if (chosen.length === 0) run.usage(`none of these contains '${filter}': ${reason}`);
        terminal.note(reason);
        return measure(device, chosen, {
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

/** The cases that the options name, and which these are. */
async function timedCases(device: Device, shapes: Shapes | undefined, path: string | undefined) {
  if (path === undefined && typeof shapes !== 'object') {
    const { timedShapes } = await import('../../bench/largeShapes.js');
    return timedShapes(device, shapes);
  }
  const { casesFrom, productCases } = await import('../../bench/ownCases.js');
  const products = typeof shapes === 'object' ? productCases(shapes) : [];
  const own = path === undefined ? [] : await casesFrom(path, device);
  return { cases: [...products, ...own], reason: path ? `Cases of ${path}.` : 'Products as asked.' };
}
