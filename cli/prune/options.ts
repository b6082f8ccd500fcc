import { Command } from 'commander';
import type { PruneOptions } from '../../replaceme/index.js';
import { defined } from '../options/defined.js';
import { each } from '../options/optionTypes.js';
import { listParsers, type PruneSettings, settingParsers as p } from './configFile.js';

/** Gives a command the options of `prune` that say which layers go, what takes their place and what calibrates. */
export const addPruneOptions = (command: Command): Command =>
  command
    .optionsGroup('Which layers go:')
    .option('--layers <n>', 'number of layers to remove', p.layers)
    .option('--ratio <share>', 'share of the layers to remove, such as 0.25 or 25%', p.ratio)
    .option(
      '--window <i>',
      'the layer that stays before the removed ones (default: as --select finds)',
      p.window,
    )
    .option('--remove <layers>', 'these layers themselves, such as 12..18 or 3,5,12..15', p.remove)
    .option(
      '--select <name>',
      'how they are chosen (default: by the method; see: rm-engine methods)',
      p.select,
    )
    .option('--windows <count>', 'windows of equal size to divide them into (default: 1)', p.windows)
    .option('--apart', 'keep a layer between windows; those that touch become one otherwise')
    .optionsGroup('What takes their place:')
    .option(
      '--method <name>',
      'such as refit-heal, replaceme-ls or plain (default: refit; see: rm-engine methods)',
      p.method,
    )
    .option(
      '--heal <how>',
      'closed-form: also refit all layers after the cut; transform:STEPS, down-proj:STEPS, full:STEPS: train; ' +
        'or closed-form,transform:STEPS (default: none)',
      p.heal,
    )
    .option('--heal-lr <rate>', 'training: learning rate (see: rm-engine heal --help)', p.healLr)
    .option('--heal-batch-tokens <count>', 'training: tokens of a step', p.healBatchTokens)
    .option('--ridge <share>', 'refit: ridge over the mean diagonal (default: by held-out tokens)', p.ridge)
    .option(
      '--attention-step <share>',
      'refit: how far o_proj goes of the way (default: 0.5, 0 in the first third of the layers)',
      p.attentionStep,
    )
    .option('--sink-weight <factor>', 'refit: what attention sinks count (default: 1)', p.sinkWeight)
    .option('--alpha <number>', 'replaceme-ls: ridge, not normalised (default: 0)', p.alpha)
    .option('--equation <7|8>', 'replaceme-cosine: objective of the paper (default: 8)', p.equation)
    .option('--epochs <count>', 'replaceme-cosine: passes over the tokens (default: 10)', p.epochs)
    .option('--learning-rate <rate>', 'replaceme-cosine: of Adam (default: 1e-4)', p.learningRate)
    .option('--l1 <weight>', 'replaceme-cosine: of the sum of |T| (default: 0)', p.l1)
    .option('--l2 <weight>', 'replaceme-cosine: of the sum of T squared (default: 0)', p.l2)
    .option('--scale <how>', 'replaceme-cosine: paper or least-squares (default: paper)', p.scale)
    .option('--faithful', 'do what the original ReplaceMe program does, quirks included (above)')
    .optionsGroup('Calibration:')
    .option(
      '--calib <files...>',
      'calibration texts (default: a small set that comes with rm-engine); for a vision encoder folders of images',
    )
    .option(
      '--calib-task <task=rows...>',
      'rows of a benchmark as calibration texts, such as sciq=train.jsonl, besides --calib or alone',
    )
    .option(
      '--weights <numbers...>',
      'what a token of each file counts (default: 1 each)',
      each(listParsers.weights),
    )
    .option('--generate <tokens>', 'text that the model writes itself, besides --calib or alone', p.generate)
    .option('--mask <share>', 'adds copies in which this share of tokens is random (default: none)', p.mask)
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option('--tokens <count>', 'calibration tokens at most (default: by the device)', p.tokens)
    .option('--sequence-length <count>', 'tokens of the longest sequence (default: 1024)', p.sequenceLength)
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', p.batchTokens)
    .option(
      '--host-states <type>',
      'f32 or bf16: hidden states that do not fit on the device (default: f32, which keeps every bit)',
      p.hostStates,
    )
    .optionsGroup('Result:')
    .option('--dtype <type>', "f32, f16 or bf16: of the result's weights (default: as they are)", p.dtype)
    .option('--max-shard-size <bytes>', 'of a weight file of the result (default: 5GB)', p.maxShardSize);

/** Settings of the command line as `prune` takes them; what is not given stays out. */
export function pruneOptions(settings: Omit<PruneSettings, 'model' | 'out' | 'dryRun'>): PruneOptions {
  const {
    calib,
    calibTask,
    eval: evaluation,
    evalTokens,
    equation,
    epochs,
    learningRate,
    l1,
    l2,
    scale,
    maxShardSize,
    healLr,
    healBatchTokens,
    ...rest
  } = settings;
  const cosine = defined({ equation, epochs, learningRate, l1, l2, scale });
  const training = defined({ learningRate: healLr, batchTokens: healBatchTokens });
  return defined({
    ...rest,
    training: Object.keys(training).length > 0 ? training : undefined,
    calibration: calib,
    calibrationTasks: calibTask,
    evaluation,
    evaluationTokens: evalTokens,
    maxShardBytes: maxShardSize,
    cosine: Object.keys(cosine).length > 0 ? cosine : undefined,
  }) as PruneOptions;
}

/** The words of the options of prune that were given, in full. */
export function optionWords(given: Readonly<Record<string, unknown>>): string[] {
  return addPruneOptions(new Command()).options.flatMap(option => {
    const value = given[option.attributeName()];
    if (value === undefined || value === false) return [];
    if (value === true) return [option.long!];
    if (!Array.isArray(value)) return [option.long!, `${value}`];
    return option.variadic ? [option.long!, ...value.map(String)] : [option.long!, value.join(',')];
  });
}
