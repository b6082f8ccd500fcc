import type { Command } from 'commander';
import type { PeakBenchmark } from '../../bench/peak.js';
import { reasonOf } from '../../engine/reasons.js';
import { withDevice } from '../device/gpu.js';
import { storePeak } from '../device/storedPeak.js';
import { wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

interface PeakOptions extends MeasuringOptions {
  samples: number;
}

const peakBench = () => import('../../bench/peak.js');

/** `bench peak` */
export const peakCommand = (signal: AbortSignal): Command =>
  measuringCommand<PeakOptions, PeakBenchmark>(signal, {
    name: 'peak',
    summary: 'measure and store the peak rates of this adapter',
    details: `Measures the rates of multiply-adds, memory, upload and download, and the cost of a dispatch. Stores the result in the
user's cache for this adapter, driver and version of rm-engine; --profile and bench kernels then show shares of it. Run
it while the machine does nothing else.`,
    examples: ['rm-engine bench peak', 'rm-engine bench peak --json'],
    options: command => command.option('--samples <count>', 'samples of each rate', wholeNumber(3), 5),
    measure: async run => {
      const { options, progress, signal, terminal } = run;
      const { benchPeak } = await peakBench();
      const result = await withDevice(run, device =>
        benchPeak(device, { samples: options.samples, onProgress: progress, signal }),
      );
      try {
        terminal.note(`stored in ${await storePeak(result.adapter, result.peak)}`);
      } catch (error) {
        // Print the numbers all the same.
        terminal.warn(`not stored, so --profile cannot show shares of it: ${reasonOf(error)}`);
      }
      return result;
    },
    text: async result => (await peakBench()).peakText(result),
  });
