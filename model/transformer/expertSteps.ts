import type { Scope, Tensor } from '../../engine/index.js';
import {
  type Activation,
  addExperts,
  type ExpertRows,
  gatherRows,
  groupByExpert,
  groupedGatedMatmul,
  groupedMatmul,
  topExperts,
} from '../../kernels/index.js';
import type { Experts } from '../architecture/architecture.js';
import type { LayerWeights } from './weights.js';

/** MLP features of the experts that tokens use, F columns; the tokens of each expert lie together. */
export interface RoutedFeatures extends ExpertRows {
  /** act(gate(Z)) * up(Z) of each row's token and expert, f32 [A, F]. */
  readonly features: Tensor;
  /** What each expert counts for each token, 0 where it is not used; f32 [T, experts]. */
  readonly weights: Tensor;
}

/** What the down projections of a layer read. */
export interface MlpFeatures {
  /** Those of the MLP or, in a layer of experts, of the shared one times its weight; [T, F]. */
  readonly dense?: Tensor;
  /** The weight of the shared expert, [T, 1]. */
  readonly share?: Tensor;
  /** Those of the other experts. */
  readonly routed?: RoutedFeatures;
}

/** All tensors of features. */
export const tensorsOf = ({ routed, ...rest }: MlpFeatures): Tensor[] => [
  ...Object.values(rest),
  ...Object.values(routed ?? {}),
];

/** The experts' features in `scope` from Z [T, hidden] and the router's logits [T, experts]: only those of chosen experts. */
export function routedFeatures(
  scope: Scope,
  normed: Tensor,
  logits: Tensor,
  weights: LayerWeights,
  { count, perToken, features, softmaxOver, limit }: Experts,
  activation: Activation,
): RoutedFeatures {
  const { recorder } = scope.device;
  const [tokens, hidden] = [normed.rowCount, normed.columns];
  const assigned = tokens * perToken;
  const rows: ExpertRows = {
    begins: scope.tensor([count + 1], 'u32', 'first rows of experts'),
    tokens: scope.tensor([assigned], 'u32', 'tokens of experts'),
    factors: scope.tensor([assigned], 'f32', 'weights of experts'),
    places: scope.tensor([tokens, perToken], 'u32', 'rows of tokens'),
  };
  const chosen = scope.tensor(logits.shape, 'f32', 'experts');
  topExperts(recorder, logits, perToken, chosen, { overAll: softmaxOver === 'all' });
  groupByExpert(recorder, chosen, rows);
  const gathered = scope.tensor([assigned, hidden], 'f32', 'tokens by expert');
  gatherRows(recorder, normed, rows.tokens, gathered);
  const out = scope.tensor([assigned, features], 'f32', 'mlp features');
  groupedGatedMatmul(recorder, gathered, weights.gate!, weights.up, rows.begins, out, {
    activation,
    ...(weights.gateBias && { gateBias: weights.gateBias }),
    ...(weights.upBias && { upBias: weights.upBias }),
    ...(limit !== undefined && { limit }),
  });
  return { ...rows, features: out, weights: chosen };
}

/** Adds the experts' outputs to `out` [T, hidden]. */
export function addRouted(
  scope: Scope,
  { features, ...rows }: RoutedFeatures,
  { down, downBias }: Pick<LayerWeights, 'down' | 'downBias'>,
  out: Tensor,
): void {
  const { recorder } = scope.device;
  const projected = scope.tensor([features.rowCount, out.columns], 'f32', 'outputs of experts');
  groupedMatmul(recorder, features, down, rows.begins, projected, downBias ? { bias: downBias } : {});
  addExperts(recorder, projected, rows, out);
}
