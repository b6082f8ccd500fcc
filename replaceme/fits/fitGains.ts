/** Shares of a channel's own square that draw its gain towards the present one. */
const RIDGES = [1, 0.1, 0.01];

/** Sums over tokens of weight w: normalised outputs z of each channel, and what they should be times a gain, D. */
export interface ChannelSums {
  /** sum w |D|² over all channels */
  readonly targetSquares: number;
  /** sum w z D by channel */
  readonly cross: Float32Array;
  /** sum w z² by channel */
  readonly squares: Float32Array;
}

/** sum of w |D - g * z|² */
export const gainLoss = ({ targetSquares, cross, squares }: ChannelSums, gains: Float32Array): number =>
  gains.reduce((sum, gain, c) => sum + gain * (gain * squares[c]! - 2 * cross[c]!), targetSquares);

/** argmin over g of w (D - g z)² + ridge w z² (g - present)², channel by channel. */
const ridgeGains = ({ cross, squares }: ChannelSums, present: Float32Array, ridge: number): Float32Array =>
  present.map((gain, c) => (squares[c]! > 0 ? (cross[c]! / squares[c]! + ridge * gain) / (1 + ridge) : gain));

const sumOf = (a: ChannelSums, b: ChannelSums): ChannelSums => ({
  targetSquares: a.targetSquares + b.targetSquares,
  cross: a.cross.map((value, c) => value + b.cross[c]!),
  squares: a.squares.map((value, c) => value + b.squares[c]!),
});

/**
 * Fits the gain of every channel by ridge regression towards the present one, with the ridge that the held-out half likes
 * best. Where none helps it, the gains stay.
 */
export function fitGains(
  [fitted, heldOut]: readonly [ChannelSums, ChannelSums],
  present: Float32Array,
): Float32Array {
  let best = { ridge: Number.POSITIVE_INFINITY, loss: gainLoss(heldOut, present) };
  for (const ridge of RIDGES) {
    const loss = gainLoss(heldOut, ridgeGains(fitted, present, ridge));
    if (loss < best.loss) best = { ridge, loss };
  }
  return Number.isFinite(best.ridge) ? ridgeGains(sumOf(fitted, heldOut), present, best.ridge) : present;
}
