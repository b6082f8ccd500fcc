import type { Command } from 'commander';
import type { Prediction } from '../../bench/predict.js';
import type { PredictionCheck } from '../../bench/predictHere.js';
import { cards } from '../../replaceme/planning/cards.js';
import { withDevice } from '../device/gpu.js';
import { wholeNumber } from '../options/optionTypes.js';
import { type MeasuringOptions, measuringCommand } from './measuring.js';
import { modelFolder } from './model.js';

interface PredictOptions extends MeasuringOptions {
  gpu?: keyof typeof cards;
  tokens: number;
}

/** `bench predict [MODEL]` */
export const predictCommand = (signal: AbortSignal): Command =>
  measuringCommand<PredictOptions, Prediction | PredictionCheck>(signal, {
    name: 'predict',
    summary: 'what models should take on a GPU that is not here, or this adapter beside its prediction',
    details: `With --gpu, computes prefill, decoding and each phase of a prune for models of 1B, 8B and 70B from the card's data sheet and
the instructions of the compiled kernels, and prints what it assumes; no device is opened. Without, predicts a model on this
adapter from its peaks, which it measures first, measures the same, and prints the ratio.`,
    args: [
      ['[model]', 'without --gpu: model folder (default: the small demo model that comes with rm-engine)'],
    ],
    examples: ['rm-engine bench predict --gpu h100', 'rm-engine bench predict ./SmolLM2-135M --tokens 2048'],
    options: command =>
      command
        .addOption(command.createOption('--gpu <card>', 'a card by name').choices(Object.keys(cards)))
        .option('--tokens <count>', 'without --gpu: calibration tokens of the prune', wholeNumber(256), 4096),
    measure: async (run, argument) => {
      const { gpu, tokens } = run.options;
      if (gpu) {
        if (argument !== undefined)
          run.usage('a model is measured on this adapter: leave out --gpu, or the model');
        const { predictCard } = await import('../../bench/predict.js');
        return await predictCard(cards[gpu]);
      }
      const { folder, name } = await modelFolder(argument);
      const { checkPrediction } = await import('../../bench/predictHere.js');
      return await withDevice(run, device => checkPrediction(device, folder, name, tokens));
    },
    text: async result =>
      'card' in result
        ? (await import('../../bench/predict.js')).predictionText(result)
        : (await import('../../bench/predictHere.js')).checkText(result),
  });
