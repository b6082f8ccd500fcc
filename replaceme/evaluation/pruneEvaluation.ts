import type { Model } from '../../model/index.js';
import type { PrunedModel } from '../activations/prunedModel.js';
import type { Window } from '../run/window.js';
import type { DamagePoint } from './layerDamage.js';
import type { Measures } from './modelMeasures.js';
import type { Sample } from './samples.js';

/** `dense`: the model as it was; `plain`: without the removed layers and nothing else; `result`: as it was written. */
export type Role = 'dense' | 'plain' | 'result';

/** How near the embeddings of an image encoder stayed, measured in memory before anything is written. */
export interface ImageEvaluation {
  readonly images: number;
  /** Asked for; images of the calibration folders that nothing was fitted on; or, without such, those that it was. */
  readonly origin: 'given' | 'held-out calibration' | 'calibration';
  /** plain, result. */
  readonly models: readonly ImageMeasures[];
}

/** Embeddings of a pruned encoder against those of the encoder as it was. */
export interface ImageMeasures {
  readonly role: Role;
  readonly layers: number;
  /** Cosine of both embeddings of an image: the mean and the lowest. */
  readonly cosine: number;
  readonly lowestCosine: number;
  /** |difference| / |embedding| over all images together. */
  readonly relativeError: number;
}

/** Measured in memory before anything is written. */
export interface PruneEvaluation {
  readonly texts: readonly EvaluatedText[];
  /** dense, plain, result; without plain where that is the result. */
  readonly models: readonly ModelMeasures[];
  readonly damageByLayer: LayerDamage;
  readonly samples: readonly Sample[];
}

/** A text that models were evaluated on. */
export interface EvaluatedText {
  /** Only the file's name in a report that lies in a model folder. */
  readonly file: string;
  readonly sha256: string;
  /** That were read of it, and in how many sequences. */
  readonly tokens: number;
  readonly sequences: number;
  /** Asked for; what follows in a calibration file behind all that was fitted on; or text that comes with the package. */
  readonly origin: 'given' | 'held-out calibration' | 'shipped';
}

/** One of the models side by side. */
export interface ModelMeasures extends Measures {
  readonly role: Role;
  readonly layers: number;
}

/** How far hidden states are from the unpruned model's, layer by layer. */
export interface LayerDamage {
  readonly tokens: number;
  /** Of these, attention sinks (first tokens, massive activations) after the last layer; they are averaged apart. */
  readonly sinks: number;
  readonly series: readonly DamageSeries[];
}

/** How far one pruned model’s hidden states are from the unpruned model’s, layer by layer. */
export interface DamageSeries {
  /** `plain`: removal alone; `fit`: only the layers before the windows changed; `healed`: also those after them. */
  readonly stage: 'plain' | 'fit' | 'healed';
  /** In ascending order. */
  readonly layers: readonly DamagePoint[];
}

/** The two models that a report compares, and what was done. */
export interface PruneOutcome {
  readonly model: Model;
  readonly pruned: PrunedModel;
  readonly windows: readonly Window[];
  /** Whether layers after the windows were refitted. */
  readonly healed: boolean;
  /** Bytes of the device that hidden states may take with which models begin where they part. */
  readonly spareBytes: number;
}

/** What was measured of a pruned model, by what it reads: texts or images. */
export interface PruneEvaluations {
  readonly evaluation?: PruneEvaluation;
  readonly imageEvaluation?: ImageEvaluation;
}
