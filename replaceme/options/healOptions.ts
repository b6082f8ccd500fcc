import type { Device } from '../../engine/index.js';
import type { RunHooks } from '../run/runHooks.js';

/**
 * What healing by gradient changes. `transform`: the map T [hidden, hidden] of the MLP output of each patched layer, which
 * begins as the identity and is folded into down_proj; `down-proj`: down_proj of these layers itself; `full`: all weights.
 */
export type TrainMode = 'transform' | 'down-proj' | 'full';
export const trainModes: readonly TrainMode[] = ['transform', 'down-proj', 'full'];

/** What healing by gradient makes smaller: -log p of the next token, or the KL divergence from a teacher. */
export type HealingObjective = 'lm' | 'kl';
export const objectives: readonly HealingObjective[] = ['lm', 'kl'];

/** Settings of training that `heal` and `prune` share. */
export interface TrainingOptions {
  /** Default 300. */
  steps?: number;
  /** At its highest; default: by what is trained (LEARNING_RATES). */
  learningRate?: number;
  /** Tokens of one step (default: 16,384 on a GPU, 1,024 on a software adapter). */
  batchTokens?: number;
  /** Of these at a time; gradients of the parts are added up (default: by the device). */
  microBatchTokens?: number;
  /** Steps until the learning rate is at its highest (default: one in twenty). */
  warmup?: number;
  /** AdamW's (default 0); a transform is pulled to the identity, gains and biases are not pulled. */
  weightDecay?: number;
  /** Longer gradients are scaled to this norm (default 1). */
  clip?: number;
  /** Of the order of the texts (default 0). */
  seed?: number;
  /** Of the teacher's tokens, so many of the most likely count one by one and the rest as one; default 100. */
  topK?: number | 'all';
  /** Steps between measures of the held-out text (default: a tenth of all). */
  evaluateEvery?: number;
}

/** Settings of `heal`. */
export interface HealOptions extends TrainingOptions, RunHooks {
  /** Default: transform. */
  train?: TrainMode;
  /** Default: kl where there is a teacher, else lm. */
  objective?: HealingObjective;
  /** Folder of the model before pruning. */
  teacher?: string;
  /** Texts to train on: .jsonl, .json, .txt or .parquet. */
  data: readonly string[];
  /** Field or column of the text in those files, where it is not text, messages or conversations. */
  textField?: string;
  /** Tokens to read of them, at most (default: as many as all steps use). */
  tokens?: number;
  /** Longest sequence (default: 1024, at most the model's context and a batch). */
  sequenceLength?: number;
  /** Texts to measure on; default: every tenth document of `data`, which is then not trained on. */
  heldOut?: readonly string[];
  /** Tokens of these, at most (default: 16,384 on a GPU, else 2,048). */
  heldOutTokens?: number;
  /** Patched layers, counted in the model that is healed; default: as its report.json says. Not with `full`. */
  layers?: readonly number[];
  /** File that keeps the run so that `resume` can go on with it (default: OUT.checkpoint.safetensors). */
  checkpoint?: string;
  /** Steps between checkpoints (default 50; 0: none). */
  checkpointEvery?: number;
  /** Goes on from the checkpoint, where there is one. */
  resume?: boolean;
  /** With `resume`: writes the model of the checkpoint as it is, without further steps. */
  finish?: boolean;
  /** The words of the command line, for the report, where it is one. */
  command?: readonly string[];
  /** Bytes of a weight file before a new shard begins (default 5e9). */
  maxShardBytes?: number;
  /** Replace an existing output folder, and the checkpoint of another run. */
  force?: boolean;
  adapter?: string;
  memoryLimit?: number;
  /** An open device to use; it is left open. */
  device?: Device;
}
