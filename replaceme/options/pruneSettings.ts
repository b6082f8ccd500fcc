import { FIXED_DATE } from '../../model/index.js';
import { closedFormHealing, healing } from './healingWords.js';
import { declare, listed, setting } from './setting.js';
import { objectiveSettings, trainingSettings } from './trainingSettings.js';
import {
  atLeast,
  byteCount,
  date,
  hubName,
  integer,
  layerList,
  listOf,
  notNegative,
  numberType,
  oneOf,
  onOff,
  parameterCount,
  positive,
  share,
  text,
  unitNumber,
  weightDtype,
  wholeNumber,
} from './valueTypes.js';

/** Which layers go, counted from 0. */
export const layerSettings = declare('Which layers go:', {
  layers: setting(wholeNumber(1), { takes: 'n', help: 'number of layers to remove' }),
  ratio: setting(share, { takes: 'share', help: 'share of the layers to remove, such as 0.25 or 25%' }),
  window: setting(wholeNumber(0), {
    takes: 'i',
    otherwise: 'as the selection finds',
    help: 'the layer that stays, right before the removed ones',
  }),
  remove: setting(layerList, { takes: 'layers', help: 'the layers to remove, such as 12..18 or 3,5,12..15' }),
  select: setting(text, {
    takes: 'name',
    otherwise: 'by the method; see: rm-engine methods',
    help: 'how to choose the layers',
  }),
  windows: setting(wholeNumber(1), {
    takes: 'count',
    default: 1,
    help: 'how many windows of equal size the removed layers form',
    details: 'Not every selection divides.',
  }),
  apart: setting(onOff, { help: 'keep a layer between windows; else windows that touch merge' }),
});

/** How many layers go, by what the result may cost or weigh. */
export const budgetSettings = declare('Or as many layers as a budget allows:', {
  maxKl: setting(positive, {
    takes: 'number',
    help: 'remove as many layers as keep the KL to the original below this on held-out text, such as 0.3',
    details: 'Tries several numbers of layers, each with its own selection and repair (docs/pruning.md).',
  }),
  keepTop1: setting(share, {
    flag: 'keep-top1',
    takes: 'share',
    help: 'remove as many as keep this share of next tokens the same, such as 0.9 or 90%',
  }),
  targetBytes: setting(byteCount, {
    flag: 'target-size',
    takes: 'bytes',
    help: 'remove layers until the weights are no larger than this, such as 90MB',
  }),
  targetParameters: setting(parameterCount, {
    takes: 'count',
    help: 'remove layers until no more parameters than this are left, such as 1B or 110M',
  }),
});

/** The method, and healing after it. */
export const repairSettings = declare('How the rest is repaired:', {
  method: setting(text, {
    takes: 'name',
    otherwise: 'refit; see: rm-engine methods',
    help: 'such as refit-heal, replaceme-ls or plain',
  }),
  heal: setting(healing, {
    takes: 'how',
    otherwise: 'none',
    help:
      'closed-form: also refit all layers after the cut; o-proj: their o_proj alone; auto: the better of the two; ' +
      'transform:STEPS, down-proj:STEPS, full:STEPS: train; or closed-form,transform:STEPS',
    details: 'A call of the library gives an object, whose parts follow.',
  }),
});

const { learningRate, batchTokens, ...otherTraining } = trainingSettings;
const libraryOnly = <T extends object>(setting: T) => ({ ...setting, flag: false as const });

/** The parts of `heal`: the command line says the first ones in the words of `heal`. */
export const healingParts = {
  ...declare(
    'How the rest is repaired:',
    {
      closedForm: setting(closedFormHealing, {
        flag: false,
        help: 'refit o_proj and down_proj of all layers after the cut by ridge regression',
        details:
          'o-proj: o_proj alone, which needs no sums over MLP features. auto: what leaves the smaller KL to the original on held-out calibration tokens, after both were tried on half of the tokens.',
      }),
    },
    ['heal'],
  ),
  ...declare(
    'How the rest is repaired:',
    {
      train: libraryOnly({ ...objectiveSettings.train, default: undefined }),
      learningRate: setting(learningRate.type, {
        ...learningRate,
        flag: 'heal-lr',
        help: 'training: peak learning rate',
      }),
      batchTokens: setting(batchTokens.type, {
        ...batchTokens,
        flag: 'heal-batch-tokens',
        help: 'training: tokens per step',
      }),
      steps: libraryOnly(otherTraining.steps),
      microBatchTokens: libraryOnly(otherTraining.microBatchTokens),
      warmup: libraryOnly(otherTraining.warmup),
      weightDecay: libraryOnly(otherTraining.weightDecay),
      clip: libraryOnly(otherTraining.clip),
      seed: libraryOnly(otherTraining.seed),
      topK: libraryOnly(otherTraining.topK),
      evaluateEvery: libraryOnly(otherTraining.evaluateEvery),
    },
    ['heal', 'gradient'],
  ),
};

/** Settings that some methods read; a method names those it reads (methods/method.ts). */
export const methodSettings = declare('How the rest is repaired:', {
  ridge: setting(atLeast(1e-3), {
    of: 'refit',
    takes: 'share',
    otherwise: 'by held-out tokens',
    help: "ridge, as a share of the Gram matrix's mean diagonal",
    details: '0.001 or more; 0.1, say.',
  }),
  attentionStep: setting(unitNumber, {
    of: 'refit',
    takes: 'share',
    otherwise: '0.5; 0 in the first third of the layers',
    help: "how far o_proj moves towards the window's output before down_proj takes over",
  }),
  sinkWeight: setting(notNegative, {
    of: 'refit',
    takes: 'factor',
    default: 1,
    help: 'weight of attention sinks beside ordinary tokens',
    details: 'Sinks are first tokens with massive activations.',
  }),
  neurons: setting(oneOf('energy', 'omp'), {
    of: 'transplant',
    takes: 'how',
    default: 'energy',
    help: 'how neurons are chosen: by energy, or by orthogonal matching pursuit (omp)',
    details:
      'omp takes those that explain most together, block by block; it costs several passes over 16,384 tokens through the MLPs of the window, and holds all their neurons in host memory.',
  }),
  alpha: setting(notNegative, {
    of: 'replaceme-ls',
    takes: 'number',
    default: 0,
    help: 'ridge on the unnormalised Gram matrix',
  }),
});

/** ReplaceMe's cosine fit; the defaults are the paper's (arXiv:2505.02819, table 14). */
export const cosineSettings = declare(
  'How the rest is repaired:',
  {
    equation: setting(oneOf(7, 8), {
      of: 'replaceme-cosine',
      takes: '7|8',
      default: 8,
      help: 'objective of the paper',
      details: '7: cos(M T + Y, L_j); 8: cos(M T, L_j - Y), the default of the paper and of its program.',
    }),
    epochs: setting(wholeNumber(1), {
      of: 'replaceme-cosine',
      takes: 'count',
      default: 10,
      help: 'passes over all calibration tokens',
    }),
    learningRate: setting(positive, {
      of: 'replaceme-cosine',
      takes: 'rate',
      default: 1e-4,
      help: 'learning rate of Adam',
    }),
    shuffle: setting(onOff, {
      of: 'replaceme-cosine',
      flag: false,
      default: true,
      help: 'draw the tokens in another order in every epoch; false: as they are read',
    }),
    seed: setting(integer, {
      of: 'replaceme-cosine',
      flag: false,
      default: 0,
      help: 'seed of that order',
    }),
    l1: setting(notNegative, {
      of: 'replaceme-cosine',
      takes: 'weight',
      default: 0,
      help: 'weight of the sum of |T| in the objective',
    }),
    l2: setting(notNegative, {
      of: 'replaceme-cosine',
      takes: 'weight',
      default: 0,
      help: 'weight of the sum of T squared in the objective',
    }),
    scale: setting(oneOf('paper', 'least-squares'), {
      of: 'replaceme-cosine',
      takes: 'how',
      default: 'paper',
      help: 'length of T: paper or least-squares',
      details:
        'Eq. 8 leaves the length open. paper: as Adam leaves it, which begins at I and takes small steps; least-squares: times <M T, L_j - Y> / |M T|².',
    }),
  },
  ['cosine'],
);

/** Compatibility with the original program. */
export const faithfulSettings = declare('How the rest is repaired:', {
  faithful: setting(onOff, {
    help: 'do what the original ReplaceMe program does, quirks included (the help of prune lists them)',
  }),
});

/** Texts, or images, that the run calibrates with. */
export const calibrationSettings = declare('Calibration:', {
  calibration: setting(listOf(text), {
    flag: 'calib',
    takes: 'files',
    otherwise: 'a small set that comes with rm-engine',
    help: 'calibration texts; for a vision encoder folders of images',
  }),
  calibrationTasks: setting(listOf(text), {
    flag: 'calib-task',
    takes: 'task=rows',
    help: 'rows of a benchmark as calibration texts, such as sciq=train.jsonl, alone or beside other texts',
    details: 'Prompt and right answer of each row (docs/tasks.md).',
  }),
  weights: setting(listOf(positive), {
    takes: 'numbers',
    otherwise: '1 each',
    help: 'weight of a token of each file, then of each task',
  }),
  generate: setting(wholeNumber(1), {
    takes: 'tokens',
    help: 'calibrate on so many tokens that the model writes itself, alone or beside other texts',
  }),
  mask: setting(share, {
    takes: 'share',
    otherwise: 'none',
    help: 'add copies of all sequences in which this share of tokens is random',
  }),
  textField: setting(text, {
    takes: 'name',
    help: 'field or column that holds the text or the messages',
    details: 'Needed where it is not text, messages or conversations.',
  }),
  skipInvalid: setting(onOff, {
    help: 'leave out rows that cannot be used, and say how many',
    details:
      'Rows that are no JSON, have no such field, or are refused by the chat template; else the first one ends the run.',
  }),
  seed: setting(wholeNumber(0), {
    takes: 'number',
    default: 0,
    help: 'seed of all that is drawn at random',
    details:
      'Masks, text that the model writes, the order of tokens in replaceme-cosine, of texts in training, of images.',
  }),
  date: setting(date, {
    takes: 'date',
    default: FIXED_DATE,
    help: 'the present for a chat template that prints the date',
    details: 'Such as 2024-07-26 or 2024-07-26T15:00. Fixed, so that two days give the same result.',
  }),
  tokens: setting(wholeNumber(1), {
    takes: 'count',
    otherwise: 'by the device',
    help: 'calibration tokens at most',
    details: '131,072 on a GPU, 8,192 on a software adapter.',
  }),
  sequenceLength: setting(wholeNumber(1), {
    takes: 'count',
    default: 1024,
    help: 'tokens of the longest sequence',
    details: "At most the model's context.",
  }),
  batchTokens: setting(wholeNumber(1), {
    takes: 'count',
    otherwise: 'by the device',
    help: 'tokens computed at a time',
  }),
  hostStates: setting(numberType('f32', 'bf16'), {
    takes: 'type',
    default: 'f32',
    help: 'number type of hidden states that wait in host memory: f32, bf16',
    details:
      'f32 keeps every bit; bf16 takes half the host memory and rounds after every layer to 8 bits of mantissa.',
  }),
});

/** The weights that are written. */
export const resultSettings = declare('Result:', {
  dtype: setting(weightDtype, {
    takes: 'type',
    otherwise: 'as they are stored',
    help: "f32, f16 or bf16: number type of the result's weights",
    details: 'The model is loaded in it, so that the fit sees the numbers that are written.',
  }),
  maxShardBytes: setting(byteCount, {
    flag: 'max-shard-size',
    takes: 'bytes',
    default: 5e9,
    help: 'size of a weight file of the result at most',
  }),
  baseModel: setting(hubName, {
    takes: 'org/name',
    otherwise: 'as its place in the cache, config.json or card says',
    help: 'the model on the Hugging Face hub, for the model card',
  }),
});

/** Sums that several runs share. */
export const statisticsSettings = declare('Calibration:', {
  statistics: setting(text, {
    takes: 'file',
    help: 'keep sums and distances in this file, and use those it has',
  }),
});

/** What is measured for the report. */
export const reportSettings = declare('Report:', {
  evaluation: setting(listOf(text), {
    flag: 'eval',
    takes: 'files',
    otherwise: 'what follows in the calibration files',
    help: 'texts to compare the models on',
  }),
  evaluationTokens: setting(wholeNumber(2), {
    flag: 'eval-tokens',
    takes: 'count',
    otherwise: 'by the device',
    help: 'first tokens of these',
    details: 'Of each file, or of all default texts together: 16,384 on a GPU, else 2,048.',
  }),
  report: setting(oneOf('full', 'light', 'none'), {
    takes: 'extent',
    otherwise: 'full, or light where full would take over a quarter of the run',
    help: 'how much is measured for the report: full, light, none',
    details:
      '`light` compares the models on fewer tokens and leaves out damage by layer, samples and speeds. With `none`, report.json holds settings, choice and fit, and there is no report.html.',
  }),
});

/** How the run is kept and goes on. */
export const runSettings = declare('Run:', {
  resume: setting(onOff, {
    help: 'continue from what an interrupted run left in OUT.checkpoint, if anything',
    ofTheRun: true,
  }),
  restart: setting(onOff, { help: 'discard what an interrupted run left there', ofTheRun: true }),
  checkpointEvery: setting(notNegative, {
    takes: 'seconds',
    default: 60,
    help: 'time between saves of the run there; 0: after every batch',
    details:
      'Longer where saving takes long. The folder comes with the first save and goes at the end of the run.',
    ofTheRun: true,
  }),
  checkpoint: setting(onOff, { default: true, help: 'keep nothing for a resume', ofTheRun: true }),
  force: setting(onOff, {
    help: 'replace an earlier output',
    details: 'A model folder or GGUF file; a folder with anything else in it is refused.',
  }),
});

/** The device; options of every command. */
export const deviceSettings = declare('Device:', {
  adapter: setting(text, {
    takes: 'name',
    help: 'part of the name of the GPU to use (see: rm-engine doctor)',
  }),
  memoryLimit: setting(byteCount, {
    takes: 'bytes',
    help: 'most device memory to use, such as 600MB or 2GiB',
  }),
});

/** Settings of `prune` that say which layers go, how the rest is repaired, and on which texts. */
export const recipeSettings = listed(
  layerSettings,
  repairSettings,
  healingParts,
  methodSettings,
  cosineSettings,
  faithfulSettings,
  calibrationSettings,
  resultSettings,
);

/** All settings of `prune`, in the order of its help. */
export const pruneSettings = [
  ...recipeSettings,
  ...listed(budgetSettings, statisticsSettings, reportSettings, runSettings, deviceSettings),
];
