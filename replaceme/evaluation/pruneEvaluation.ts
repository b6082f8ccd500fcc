import type { LeftOutRows, Model } from '../../model/index.js';
import type { PrunedModel } from '../activations/prunedModel.js';
import type { Window } from '../run/window.js';
import type { MeasuredWindows } from '../run/windowChoice.js';
import type { DamagePoint } from './layerDamage.js';
import type { Measures } from './modelMeasures.js';
import type { Sample } from './samples.js';

/**
 * `dense`: the unpruned model; `plain`: with as many layers removed and nothing else changed, the best such model that is
 * known; `result`: the written model.
 */
export type Role = 'dense' | 'plain' | 'result';

/** How close an image encoder's embeddings stayed, measured in memory before anything is written. */
export interface ImageEvaluation {
  readonly images: number;
  /** Given images; unused images of the calibration folders; or, where all are used, calibration images. */
  readonly origin: 'given' | 'held-out calibration' | 'calibration';
  /** plain, result. */
  readonly models: readonly ImageMeasures[];
}

/** Embeddings of a pruned encoder against those of the original. */
export interface ImageMeasures {
  readonly role: Role;
  readonly layers: number;
  /** Cosine of an image's two embeddings: the mean and the lowest. */
  readonly cosine: number;
  readonly lowestCosine: number;
  /** |difference| / |embedding| over all images together. */
  readonly relativeError: number;
}

/** The evaluation of a pruned language model, in memory before anything is written. */
export interface PruneEvaluation {
  readonly texts: readonly EvaluatedText[];
  /** dense, plain, result; plain is left out where it is the result. */
  readonly models: readonly ModelMeasures[];
  /** Absent in a light report. */
  readonly damageByLayer?: LayerDamage;
  /** None in a light report, or of layers that are streamed. */
  readonly samples: readonly Sample[];
}

/** A text that models were evaluated on. */
export interface EvaluatedText {
  /** The path; in a report inside a model folder only the file's name. */
  readonly file: string;
  readonly sha256: string;
  /** Tokens and sequences that were read. */
  readonly tokens: number;
  readonly sequences: number;
  /** A given file; the rest of a calibration file, after all text that was used; or text that ships with the package. */
  readonly origin: 'given' | 'held-out calibration' | 'shipped';
  readonly leftOut?: LeftOutRows;
}

/** The measures of one of the compared models. */
export interface ModelMeasures extends Omit<Measures, 'tokensPerSecond'> {
  /** Absent in a light report. */
  readonly tokensPerSecond?: number;
  readonly role: Role;
  readonly layers: number;
  /** The windows that `plain` removes, where they are not those of the result. */
  readonly windows?: readonly Window[];
}

/** How far hidden states are from the unpruned model's, layer by layer. */
export interface LayerDamage {
  readonly tokens: number;
  /** How many of them are attention sinks (first tokens, massive activations) after the last layer; averaged separately. */
  readonly sinks: number;
  readonly series: readonly DamageSeries[];
}

/** How far one pruned model’s hidden states are from the unpruned model’s, layer by layer. */
export interface DamageSeries {
  /** `plain`: removal alone; `fit`: also with the layers before the windows changed; `healed`: with all changes. */
  readonly stage: 'plain' | 'fit' | 'healed';
  /** Ascending. */
  readonly layers: readonly DamagePoint[];
}

/** The two models that a report compares, and what changed. */
export interface PruneOutcome {
  readonly model: Model;
  readonly pruned: PrunedModel;
  readonly windows: readonly Window[];
  /** The windows that the selection measured, if any. */
  readonly map?: MeasuredWindows;
  /** Whether layers after the windows were refitted. */
  readonly healed: boolean;
  /** Device bytes for hidden states from which models start where they first differ. */
  readonly spareBytes: number;
}

/** The evaluation of a pruned model: on texts or on images. */
export interface PruneEvaluations {
  readonly evaluation?: PruneEvaluation;
  readonly imageEvaluation?: ImageEvaluation;
}
