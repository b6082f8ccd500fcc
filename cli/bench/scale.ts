import type { Command } from 'commander';
import type { ScaleBenchmark } from '../../bench/scale.js';
import { withDevice } from '../device/gpu.js';
import { requireTimestamps } from '../device/kernelProfile.js';
import { each, wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';

interface ScaleCommandOptions extends MeasuringOptions {
  tokens?: number[];
  layers?: number[];
  hidden?: number[];
  shards?: number[];
  files?: number[];
  samples: number;
}

const scaleBench = () => import('../../bench/scale.js');

/** `bench scale` */
export const scaleCommand = (signal: AbortSignal): Command =>
  measuringCommand<ScaleCommandOptions, ScaleBenchmark>(signal, {
    name: 'scale',
    summary:
      'time and memory of a prune by tokens, layers, hidden size, shards and files, with fitted exponents',
    details: `Writes models of random weights into a temporary folder and removes the last layer of each by least squares, so that all
tokens pass all layers once. Varies one size at a time, from 2048 tokens, 4 layers, 256 hidden, one shard and one file; the
exponent is the slope of a least-squares line through the logarithms. The last table computes large models on one H100 by
arithmetic (docs/scale.md). With sizes as options, measures these axes only. The adapter must have timestamp queries.`,
    examples: [
      'rm-engine bench scale',
      'rm-engine bench scale --json',
      'rm-engine bench scale --tokens 16384,65536,262144 --hidden 512,1024,2048',
    ],
    options: command =>
      command
        .option('--tokens <counts...>', 'calibration tokens', each(wholeNumber(256)))
        .option('--layers <counts...>', 'layers of the model', each(wholeNumber(2)))
        .option('--hidden <sizes...>', 'hidden dimensions, multiples of 64', each(wholeNumber(64)))
        .option('--shards <counts...>', 'parts of the tokens; one is summed', each(wholeNumber(1)))
        .option('--files <counts...>', 'files of the checkpoint', each(wholeNumber(1)))
        .option('--samples <count>', 'runs of each size; the fastest counts', wholeNumber(1), 2),
    measure: async run => {
      const { tokens, layers, hidden, shards, files, samples } = run.options;
      if (hidden?.some(size => size % 64 !== 0)) run.usage('--hidden takes multiples of 64');
      const { benchScale, scaleDefaults } = await scaleBench();
      const axes = Object.entries({ tokens, layers, hidden, shards, files }).filter(([, sizes]) => sizes);
      const values = axes.length > 0 ? Object.fromEntries(axes) : scaleDefaults.values;
      const deviceOptions = { ...run.deviceOptions, profile: true };
      return withDevice({ ...run, deviceOptions }, async device => {
        requireTimestamps(device, 'bench scale');
        const { progress: onProgress, signal: stop } = run;
        return benchScale(device, { base: scaleDefaults.base, values, samples, onProgress, signal: stop });
      });
    },
    text: async result => (await scaleBench()).scaleText(result),
  });
