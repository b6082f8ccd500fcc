import type { Device } from '../../engine/index.js';
import type { WeightDtype } from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { CosineSettings } from './cosineSettings.js';
import type { TrainingOptions } from './healOptions.js';

/** Settings of `prune`. Layers are counted from 0. */
export interface PruneOptions extends RunHooks {
  /** Layers to remove: a number, or a share of the model's layers. Exactly one of the two. */
  layers?: number;
  ratio?: number;
  /** The layer that stays before the removed ones; default: as `select` finds it. */
  window?: number;
  /** The removed layers themselves, in place of `layers`, `ratio` and `window`. */
  remove?: readonly number[];
  /** How the removed layers are chosen (default: by the method). */
  select?: string;
  /** Windows of equal size that the layers are removed in (default 1), as far as the selection knows them. */
  windows?: number;
  /** Keeps a layer between windows; otherwise those that touch become one. */
  apart?: boolean;
  /** Default: refit. */
  method?: string;
  /**
   * Healing after the repair: "none" (default); "closed-form", of the layers after the cut; "transform:300", "down-proj:300"
   * or "full:300", so many steps of training towards the unpruned model; or both, "closed-form,transform:300".
   */
  heal?: string;
  /** Settings of these steps, on the calibration texts; where no number of them stands in `heal`, that too. */
  training?: TrainingOptions;
  /** Ridge of ReplaceMe's least squares on the unnormalised Gram matrix (default 0). */
  alpha?: number;
  /** Ridge of a refit as a share of the Gram matrix's mean diagonal; default: by held-out tokens. */
  ridge?: number;
  /**
   * How much of the way to the window's output a refit lets o_proj go before down_proj takes over (default 0.5, in the
   * first third of the layers 0).
   */
  attentionStep?: number;
  /** How much attention sinks (first tokens, massive activations) count in a refit (default 1). */
  sinkWeight?: number;
  /** ReplaceMe's cosine fit, where it differs from the paper's. */
  cosine?: Partial<CosineSettings>;
  /** Calibration files; default: the small set that ships with the package. */
  calibration?: readonly string[];
  /**
   * Tasks whose rows are calibration texts, prompt and right answer: "sciq=train.jsonl", beside the files or in place of
   * the shipped set.
   */
  calibrationTasks?: readonly string[];
  /** How much a token of each file counts, then of each task's (default 1 each). */
  weights?: readonly number[];
  /** Share of tokens that a copy of every sequence has replaced at random; default: no copies. */
  mask?: number;
  /** Tokens of calibration text that the model writes itself: beside the files, or in place of the shipped set. */
  generate?: number;
  /** Does what the original ReplaceMe program does (faithful.ts). */
  faithful?: boolean;
  /** A file of sums and distances, read and added to: settings and windows that it knows cost no forward pass. */
  statistics?: string;
  /** Field or column of the text in those files, where it is not text, messages or conversations. */
  textField?: string;
  /** Calibration tokens at most; default: 131,072 on a GPU, 8,192 on a software adapter. */
  tokens?: number;
  /** Longest calibration sequence (default 1024, and at most the model's context). */
  sequenceLength?: number;
  /** Tokens of a packed batch. */
  batchTokens?: number;
  /**
   * Number type of hidden states that do not fit on the device and wait in the host's memory: f32 (default) keeps every
   * bit, bf16 takes half and rounds them to 8 bits of mantissa after every layer.
   */
  hostStates?: 'f32' | 'bf16';
  /** False: nothing is measured for a report, report.json holds the recipe alone, no report.html (default true). */
  report?: boolean;
  /** Texts that the report compares models on; default: what follows in the calibration files behind what was read. */
  evaluation?: readonly string[];
  /** First tokens of each of them, or of all default texts together (default: 16,384 on a GPU, else 2,048). */
  evaluationTokens?: number;
  /** False: nothing is kept for another process to go on from (default true). */
  checkpoint?: boolean;
  /**
   * Seconds from one save of the run's state to the next, in the folder OUT.checkpoint (default 60; more where saving takes
   * long; 0: behind every batch). The folder comes with the first save and goes with the end of the run.
   */
  checkpointEvery?: number;
  /** Goes on from what an interrupted run has left there, or begins where there is nothing. */
  resume?: boolean;
  /** Discards what an interrupted run has left there. */
  restart?: boolean;
  /** Is told in a sentence what a user should know while the run goes on. */
  onNotice?: (text: string) => void;
  /** The words of the command line, for the report, where it is one. */
  command?: readonly string[];
  /**
   * Number type of the result's weights (default: as they are stored). The model is loaded in it, so that what is fitted is
   * what is written.
   */
  dtype?: WeightDtype;
  /** Bytes of a weight file before a new shard begins (default 5e9). */
  maxShardBytes?: number;
  /** Replace an existing output folder. */
  force?: boolean;
  adapter?: string;
  memoryLimit?: number;
  /** An open device to use; it is left open. */
  device?: Device;
}

/** The number type that is asked for, if any. */
export const dtypeOf = ({ dtype }: PruneOptions): Pick<PruneOptions, 'dtype'> =>
  dtype === undefined ? {} : { dtype };

/** Whether there are calibration texts besides what the model writes and what ships with the package. */
export const givesTexts = ({ calibration, calibrationTasks }: PruneOptions): boolean =>
  !!calibration?.length || !!calibrationTasks?.length;
