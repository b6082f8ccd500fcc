// Ridge regressions of experts against normal equations in f64 on the host. 2 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { groupByExpert, normals } from '../../kernels/index.js';
import type { MlpFeatures } from '../../model/index.js';
import { ExpertStatistics } from '../../replaceme/fits/expertStatistics.js';
import { RIDGES } from '../../replaceme/fits/ridgeStatistics.js';

const [count, taken, features, sharedFeatures, hidden, tokens] = [4, 2, 5, 6, 7, 90] as const;
const sizes = { count, features, shared: sharedFeatures, hidden };

/** A token's row for one expert: features times its weight, what share of the residual is its own, and what it counts. */
interface Row {
  readonly token: number;
  readonly x: number[];
  readonly share: number;
  readonly weight: number;
}

interface Half {
  readonly features: MlpFeatures;
  readonly residual: Float32Array;
  readonly roots: Float32Array;
  /** By expert, the shared one last. */
  readonly rows: readonly Row[][];
}

const device = await Device.open();
test.after(() => device.close());

/** Tokens of which expert 3 gets none in half 1; what is missing follows from the features, and noise. */
async function half(scope: Scope, seed: number): Promise<Half> {
  const chosen = new Float32Array(tokens * count);
  const numbers = normals(tokens * taken, seed);
  for (let t = 0; t < tokens; t++) {
    for (let j = 0; j < taken; j++) {
      const expert = seed % 2 ? (t + j * (1 + (t % 2))) % 3 : (t * 3 + j) % count;
      chosen[t * count + expert] = 0.1 + Math.abs(numbers[t * taken + j]!);
    }
  }
  const upload = (values: Float32Array, shape: number[]) => scope.own(tensorFrom(device, values, shape));
  const weights = upload(chosen, [tokens, count]);
  const rows = {
    begins: scope.tensor([count + 1], 'u32'),
    tokens: scope.tensor([tokens * taken], 'u32'),
    factors: scope.tensor([tokens * taken]),
    places: scope.tensor([tokens, taken], 'u32'),
  };
  groupByExpert(device.recorder, weights, rows);
  const routed = normals(tokens * taken * features, seed + 10);
  const dense = normals(tokens * sharedFeatures, seed + 20);
  const share = normals(tokens, seed + 30).map(value => 1 / (1 + Math.exp(-value)));
  const residual = normals(tokens * hidden, seed + 40).map(
    (value, i) => 0.3 * value + dense[Math.floor(i / hidden) * sharedFeatures]! + ((i % hidden) - 3) / 4,
  );
  const roots = normals(tokens, seed + 50).map(value => 0.5 + Math.abs(value));
  const total = (t: number) =>
    chosen.slice(t * count, (t + 1) * count).reduce((sum, weight) => sum + weight, share[t]!);
  let row = 0;
  const hostRows = Array.from({ length: count }, (_, e) =>
    Array.from({ length: tokens }, (_, token) => ({ token, w: chosen[token * count + e]! }))
      .filter(({ w }) => w > 0)
      .map(({ token, w }): Row => {
        const x = [...routed.slice(row * features, ++row * features)].map(value => value * w);
        const part = w / total(token);
        return { token, x, share: part, weight: roots[token]! ** 2 / part };
      }),
  );
  const ofShared = Array.from({ length: tokens }, (_, token): Row => {
    const part = share[token]! / total(token);
    const x = [...dense.slice(token * sharedFeatures, (token + 1) * sharedFeatures)];
    return { token, x, share: part, weight: roots[token]! ** 2 / part };
  });
  return {
    features: {
      dense: upload(dense, [tokens, sharedFeatures]),
      share: upload(share, [tokens, 1]),
      routed: { ...rows, weights, features: upload(routed, [tokens * taken, features]) },
    },
    ...{ residual, roots, rows: [...hostRows, ofShared] },
  };
}

/** G [n,n] and C [n,hidden] of an expert's rows, in f64. */
function sumsOf(rows: readonly Row[], residual: Float32Array, n: number) {
  const gram = Array.from({ length: n }, () => new Float64Array(n));
  const cross = Array.from({ length: n }, () => new Float64Array(hidden));
  let squares = 0;
  for (const { token, x, share, weight } of rows) {
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) gram[i]![j]! += weight * x[i]! * x[j]!;
      for (let c = 0; c < hidden; c++)
        cross[i]![c]! += weight * x[i]! * share * residual[token * hidden + c]!;
    }
    for (let c = 0; c < hidden; c++) squares += weight * (share * residual[token * hidden + c]!) ** 2;
  }
  return { gram, cross, squares };
}

type HostSums = ReturnType<typeof sumsOf>;

const added = (a: HostSums, b: HostSums): HostSums => ({
  gram: a.gram.map((row, i) => row.map((value, j) => value + b.gram[i]![j]!)),
  cross: a.cross.map((row, i) => row.map((value, j) => value + b.cross[i]![j]!)),
  squares: a.squares + b.squares,
});

const meanDiagonal = ({ gram }: HostSums) => gram.reduce((sum, row, i) => sum + row[i]!, 0) / gram.length;

/** Gauss and Jordan. */
function solved({ gram, cross }: HostSums, shift: number): Float64Array[] {
  const rows = gram.map((row, i) => [...row.map((value, j) => value + (i === j ? shift : 0)), ...cross[i]!]);
  for (const [i, row] of rows.entries()) {
    const pivot = row[i]!;
    for (const [j, value] of row.entries()) row[j] = value / pivot;
    for (const [k, other] of rows.entries()) {
      const factor = other[i]!;
      if (k !== i) for (const [j, value] of row.entries()) other[j]! -= factor * value;
    }
  }
  return rows.map(row => Float64Array.from(row.slice(gram.length)));
}

/** The loss of sums with a Delta: squares - 2 tr(Delta' C) + tr(Delta' G Delta). */
function lossOf({ gram, cross, squares }: HostSums, delta: readonly Float64Array[]): number {
  let loss = squares;
  for (const [i, row] of delta.entries()) {
    for (let c = 0; c < hidden; c++) {
      let product = 0;
      for (const [j, other] of delta.entries()) product += gram[i]![j]! * other[c]!;
      loss += row[c]! * (product - 2 * cross[i]![c]!);
    }
  }
  return loss;
}

async function compare(found: Tensor | undefined, expected: readonly Float64Array[], what: string) {
  assert.ok(found, what);
  const values = await downloadF32(found!);
  const most = Math.max(...expected.map(row => Math.max(...row.map(Math.abs))));
  for (const [i, row] of expected.entries()) {
    for (const [c, value] of row.entries()) {
      assert.ok(Math.abs(values[i * hidden + c]! - value) <= 1e-4 * most, `${what} [${i},${c}]`);
    }
  }
}

async function filled(scope: Scope, given: readonly Half[]): Promise<ExpertStatistics> {
  const statistics = new ExpertStatistics(device, sizes);
  for (const [i, { features: of, residual, roots }] of given.entries()) {
    const missing = scope.own(tensorFrom(device, residual, [tokens, hidden]));
    await statistics.add(i as 0 | 1, of, missing, scope.own(tensorFrom(device, roots, [tokens])));
  }
  return statistics;
}

const widthOf = (e: number) => (e < count ? features : sharedFeatures);

test('with a ridge, every expert solves the normal equations of its own tokens and its share of what is missing', async () => {
  using scope = new Scope(device);
  const halves = [await half(scope, 1), await half(scope, 2)];
  using statistics = await filled(scope, halves);
  // Sums go through a file and back.
  const { tensors, numbers } = await statistics.sums();
  using restored = new ExpertStatistics(device, sizes);
  await restored.restore({ tensors, numbers });
  const solution = (await restored.solve(0.3))!;
  for (const e of Array(count + 1).keys()) {
    const [a, b] = halves.map(({ rows, residual }) => sumsOf(rows[e]!, residual, widthOf(e)));
    const all = added(a!, b!);
    const delta = e < count ? solution.deltas[e] : solution.shared;
    await compare(delta, solved(all, 0.3 * meanDiagonal(all)), `expert ${e}`);
    delta!.dispose();
  }
});

test('the ridge that is best for the held-out tokens of all experts; those that it does no good keep their weights', async () => {
  using scope = new Scope(device);
  const halves = [await half(scope, 1), await half(scope, 2)];
  using statistics = await filled(scope, halves);
  const solution = (await statistics.solve())!;
  const sums = Array.from({ length: count + 1 }, (_, e) =>
    halves.map(({ rows, residual }) => sumsOf(rows[e]!, residual, widthOf(e))),
  ) as [HostSums, HostSums][];
  const all = sums.reduce((sum, [, heldOut]) => sum + heldOut.squares, 0);
  const losses = RIDGES.map(ridge =>
    sums.map(([fitted, heldOut]) =>
      meanDiagonal(fitted) === 0
        ? heldOut.squares
        : Math.min(heldOut.squares, lossOf(heldOut, solved(fitted, ridge * meanDiagonal(fitted)))),
    ),
  );
  const totals = losses.map(row => row.reduce((sum, loss) => sum + loss, 0) / all);
  for (const [r, { ridge, heldOut }] of statistics.points.entries()) {
    assert.is(ridge, RIDGES[r]);
    assert.ok(Math.abs(heldOut - totals[r]!) <= 1e-5, `ridge ${ridge}: ${heldOut}, not ${totals[r]}`);
  }
  const best = totals.indexOf(Math.min(...totals));
  assert.is(solution.ridge, RIDGES[best]);
  assert.is(solution.deltas[3], undefined, 'expert 3 has no tokens in one half');
  for (const [e, [fitted, heldOut]] of sums.entries()) {
    const delta = e < count ? solution.deltas[e] : solution.shared;
    if (losses[best]![e] === heldOut.squares) assert.is(delta, undefined, `expert ${e}`);
    else {
      // A chosen ridge stays the same number.
      const shift = RIDGES[best]! * meanDiagonal(fitted);
      await compare(delta, solved(added(fitted, heldOut), shift), `expert ${e}`);
    }
    delta?.dispose();
  }
});

test('what experts lack is less with their changes than the sum of their own losses says', async () => {
  using scope = new Scope(device);
  const halves = [await half(scope, 1), await half(scope, 2)];
  using statistics = await filled(scope, halves);
  const { deltas, shared } = (await statistics.solve(0.1))!;
  const changes = await Promise.all([...deltas, shared].map(async delta => downloadF32(delta!)));
  for (const delta of [...deltas, shared]) delta!.dispose();
  let [before, after, bound] = [0, 0, 0];
  for (const { rows, residual, roots } of halves) {
    const missing = Float64Array.from(residual);
    for (const [e, list] of rows.entries()) {
      const sums = sumsOf(list, residual, widthOf(e));
      const delta = Array.from({ length: widthOf(e) }, (_, i) =>
        Float64Array.from(changes[e]!.slice(i * hidden, (i + 1) * hidden)),
      );
      bound += lossOf(sums, delta);
      for (const { token, x } of list) {
        for (const [i, value] of x.entries()) {
          for (let c = 0; c < hidden; c++) missing[token * hidden + c]! -= value * delta[i]![c]!;
        }
      }
    }
    for (let i = 0; i < residual.length; i++) {
      const weight = roots[Math.floor(i / hidden)]! ** 2;
      before += weight * residual[i]! ** 2;
      after += weight * missing[i]! ** 2;
    }
  }
  assert.ok(after < bound && bound < before, `${after} < ${bound} < ${before}`);
});

test.run();
