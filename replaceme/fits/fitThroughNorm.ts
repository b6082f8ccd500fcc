import { Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { addInto, addTransposed, axpy, convert, scale, scaleRows } from '../../kernels/index.js';
import { valuesOf } from '../activations/valuesOf.js';
import { fitGains, gainLoss } from './fitGains.js';
import {
  type Fitted,
  gainOf,
  type Projection,
  type ProjectionFit,
  type ProjectionWeights,
  type SumsRequest,
  statisticsOf,
} from './projectionFit.js';
import type { RidgePoint } from './ridgePath.js';

/** Each round holds the norms of the tokens as the weights of the round before leave them. */
export const NORM_ROUNDS = 4;

/** What a round found; losses are sums of w |D - g * (W F)|². */
interface Round {
  /** Undefined where no change helps the held-out half. */
  readonly weight: Tensor | undefined;
  readonly gain: Tensor | undefined;
  readonly ridge: number | undefined;
  readonly points: readonly RidgePoint[];
  /** Of all tokens as the round began. */
  readonly loss: number;
  /** Of the held-out half as the round began, and with what it found while the norms stay. */
  readonly heldOut: readonly [before: number, after: number];
}

/**
 * Fits a projection and the gain of the norm behind it: L = Y + g * m / rms(m) with m = W h. While r = rms(m) is held, W is
 * a ridge regression of (L - Y) / g on h / r, and each channel of g has a closed form. A few rounds of both reach weights
 * that leave r alone; a round that made things worse is taken back. Source: our own.
 *
 * @param step how much of its change the projection takes.
 * @returns undefined where `sumsOf` has no complete sums.
 */
export async function fitThroughNorm(
  fit: ProjectionFit,
  projection: Projection,
  step: number,
  after: string,
): Promise<Fitted | undefined> {
  const { model, layer, journal, weights } = fit;
  const names = [projection, gainOf[projection]] as const;
  using scope = new Scope(model.device);
  const initial = { ...weights };
  const set = (from: ProjectionWeights) => {
    for (const name of names) {
      delete weights[name];
      if (from[name]) weights[name] = from[name];
    }
  };
  const rounds: Round[] = [];
  let before: ProjectionWeights = {};
  let isWorse = false;
  while (rounds.length < NORM_ROUNDS) {
    const ridges = rounds.map(({ ridge }) => ridge ?? 'kept').join(' ');
    const request = { projection, after: `${after}, through the norm${ridges && `: ridges ${ridges}`}` };
    const round = await journal.step(`${projection}_proj, round ${rounds.length}`, () =>
      fitRound(fit, request),
    );
    if (!round) return undefined;
    for (const tensor of [round.weight, round.gain]) if (tensor) scope.own(tensor);
    const previous = rounds.at(-1);
    isWorse = previous !== undefined && round.loss > previous.loss;
    if (isWorse) {
      set(before);
      break;
    }
    before = { ...weights };
    rounds.push(round);
    if (!round.weight && !round.gain) break;
    if (round.weight) weights[projection] = round.weight;
    if (round.gain) weights[gainOf[projection]] = round.gain;
  }
  const [first, last] = [rounds[0]!, rounds.at(-1)!];
  const ridge = rounds.findLast(found => found.ridge !== undefined)?.ridge;
  const path = { projection, points: first.points, ...(ridge !== undefined && { chosen: ridge }) };
  const fitted = names.filter(name => weights[name] !== initial[name]);
  if (fitted.length === 0) return { path, solved: undefined };
  await model.loadLayer(layer);
  const stored = model.weights.layers[layer]!;
  const moved: ProjectionWeights = {};
  for (const name of fitted) moved[name] = partWay((initial[name] ?? stored[name])!, weights[name]!, step);
  set(initial);
  const heldOut = last.heldOut[isWorse ? 0 : 1] / first.heldOut[0];
  const summary = ridge === undefined ? undefined : { ridge, ...(fit.ridge === undefined && { heldOut }) };
  return { path, solved: { weights: moved, summary } };
}

async function fitRound(fit: ProjectionFit, request: SumsRequest): Promise<Round | undefined> {
  const { model, layer, weights, ridge, scaled } = fit;
  const { device, arch } = model;
  const { projection } = request;
  using statistics = statisticsOf(fit, projection);
  if (!(await fit.sumsOf(request, statistics))) return undefined;
  using _section = device.section('solve');
  using scope = new Scope(device);
  await model.loadLayer(layer);
  const stored = model.weights.layers[layer]!;
  const weight = weights[projection] ?? stored[projection];
  const gain = weights[gainOf[projection]] ?? stored[gainOf[projection]]!;
  const wide = widened(scope, weight);
  const { offset } = arch.norm;
  const gainsIn = async (tensor: Tensor) => (await valuesOf(tensor)).map(value => value + offset);
  const present = await gainsIn(gain);
  let newGain: Tensor | undefined;
  let gains = present;
  let before = [0, 0];
  const after = await statistics.subtractOutputs(wide, async halves => {
    before = halves.map(half => gainLoss(half, present));
    const fitted = fitGains(halves, present);
    if (fitted === present) return present;
    // Rounded as they will be stored, so that the projection makes up for it.
    newGain = scope.tensor(gain.shape, gain.dtype, gain.label);
    convert(
      device.recorder,
      scope.own(
        tensorFrom(
          device,
          fitted.map(value => value - offset),
        ),
      ),
      newGain,
    );
    gains = await gainsIn(newGain);
    return gains;
  });
  const solution = await statistics.solve(ridge, { scaled });
  let newWeight: Tensor | undefined;
  if (solution) {
    scope.own(solution.delta);
    newWeight = scope.tensor(weight.shape, weight.dtype, weight.label);
    convert(device.recorder, plusPerGain(scope, wide, solution.delta, gains), newWeight);
  }
  for (const tensor of [newWeight, newGain]) if (tensor) scope.release(tensor);
  return {
    ...{ weight: newWeight, gain: newGain, ridge: solution?.ridge, points: statistics.points },
    loss: before[0]! + before[1]!,
    heldOut: [before[1]!, after[1] * (solution?.heldOut ?? 1)],
  };
}

/** The tensor in f32; a copy in `scope`. */
function widened(scope: Scope, tensor: Tensor): Tensor {
  const wide = scope.tensor(tensor.shape, 'f32', tensor.label);
  convert(tensor.device.recorder, tensor, wide);
  return wide;
}

/** W + diag(1/g) Deltaᵀ; W [out, in] f32, Delta [in, out]. A channel without gain keeps its row. */
function plusPerGain(scope: Scope, weight: Tensor, delta: Tensor, gains: Float32Array): Tensor {
  const rec = weight.device.recorder;
  const change = scope.tensor(weight.shape, 'f32', 'change');
  const scaled = scope.tensor(weight.shape, 'f32', 'change per gain');
  rec.clear(change);
  addTransposed(rec, delta, 1, change);
  const inverse = scope.own(
    tensorFrom(
      weight.device,
      gains.map(gain => (gain === 0 ? 0 : 1 / gain)),
    ),
  );
  scaleRows(rec, change, inverse, scaled);
  addInto(rec, scaled, weight);
  return scaled;
}

/** from + step (to - from) in their number type. The caller disposes it. */
function partWay(from: Tensor, to: Tensor, step: number): Tensor {
  const rec = from.device.recorder;
  using scope = new Scope(from.device);
  const [start, end] = [widened(scope, from), widened(scope, to)];
  scale(rec, end, step);
  axpy(rec, 1 - step, start, end);
  const stored = scope.tensor(from.shape, from.dtype, from.label);
  convert(rec, end, stored);
  return scope.release(stored);
}
