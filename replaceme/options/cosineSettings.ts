import { ensure } from '../../engine/index.js';

/** Settings of ReplaceMe's cosine fit; the defaults are the paper's (table 14). */
export interface CosineSettings {
  /** 7: cos(M T + Y, L_j), 8: cos(M T, L_j - Y), which the paper and its program use unless told. Default 8. */
  readonly equation: 7 | 8;
  /** Passes over all calibration tokens; default 10. */
  readonly epochs: number;
  /** Default 1e-4. */
  readonly learningRate: number;
  /** Draws the tokens in another order in every epoch (default); false: in the order they are read. */
  readonly shuffle: boolean;
  /** Of the order; default 0. */
  readonly seed: number;
  /** Weight of the sum of |T|'s elements in the objective; default 0. */
  readonly l1: number;
  /** Weight of the sum of their squares; default 0. */
  readonly l2: number;
  /**
   * The length of T, which Eq. 8 leaves open. 'paper': as Adam leaves it, which begins at I and takes small steps
   * (default); 'least-squares': T times the number that least squares asks for, <M T, L_j - Y> / |M T|².
   */
  readonly scale: 'paper' | 'least-squares';
}

/** Fills in the defaults. @throws RmError INVALID_ARGUMENT for a value out of range, or two that disagree. */
export function cosineSettings(given: Partial<CosineSettings> = {}): CosineSettings {
  const settings: CosineSettings = {
    ...{ equation: 8, epochs: 10, learningRate: 1e-4, shuffle: true, seed: 0, l1: 0, l2: 0, scale: 'paper' },
    ...given,
  };
  const { equation, epochs, learningRate, seed, l1, l2, scale } = settings;
  ensure(equation === 7 || equation === 8, `there is no cosine equation ${equation}`, 'Choose 7 or 8.');
  ensure(Number.isInteger(epochs) && epochs >= 1, `epochs is ${epochs}`, 'Give a whole number of 1 or more.');
  ensure(
    Number.isFinite(learningRate) && learningRate > 0,
    `learningRate is ${learningRate}`,
    'Give a number above 0 (1e-4, say).',
  );
  ensure(Number.isInteger(seed), `seed is ${seed}`, 'Give a whole number.');
  for (const [name, value] of Object.entries({ l1, l2 }))
    ensure(Number.isFinite(value) && value >= 0, `${name} is ${value}`, 'Give a number of 0 or more.');
  ensure(
    scale === 'paper' || scale === 'least-squares',
    `there is no scale '${scale}'`,
    'Choose paper or least-squares.',
  );
  ensure(
    scale === 'paper' || equation === 8,
    'Eq. 7 fits the scale of T itself',
    'Use the least-squares scale with equation 8.',
  );
  return settings;
}
