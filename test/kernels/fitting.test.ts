import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadF32, Scope, tensorFrom } from '../../engine/index.js';
import { cosineLossF64, fittingCases } from '../../kernels/cases/fitting.js';
import { type AdamOptions, adam } from '../../kernels/elementwise/adam.js';
import { scaleRows } from '../../kernels/map/named.js';
import { cosineLoss } from '../../kernels/reductions/cosineLoss.js';
import { maxAbsError, normals, rejectsWith, relativeError } from '../gpu.js';
import { testCases } from './runCases.js';

const device = testCases(fittingCases);

const tensor = (scope: Scope, values: ArrayLike<number>, shape: readonly number[] = [values.length]) =>
  scope.own(tensorFrom(scope.device, Float32Array.from(values), shape));

test('adam: five steps as torch.optim.Adam in f64 takes them', async () => {
  using scope = new Scope(device());
  const gradient = scope.tensor([5]);
  const parameters = tensor(scope, [0.5, -1.25, 0, 0.003, 2]);
  const [firstMoment, secondMoment] = [
    tensor(scope, new Float32Array(5)),
    tensor(scope, new Float32Array(5)),
  ];
  const rec = scope.device.recorder;
  for (let step = 1; step <= 5; step++) {
    rec.copy(
      tensor(
        scope,
        Array.from({ length: 5 }, (_, i) => Math.sin(1.7 * i + step)),
      ),
      gradient,
    );
    const options = { learningRate: 0.01, step, l1: 0.1, l2: 0.05 };
    adam(rec, { parameters, gradient, firstMoment, secondMoment }, options);
  }
  // torch 2, with 0.1 sign(p) + 2 * 0.05 p added to the gradient.
  const expected = [
    [0.4657747748421454, -1.2322729522819937, 0.023396849793027738, -0.012711597437652378, 1.968594515718816],
    [
      0.029521343892375082, -0.1927628428388673, 0.09213358983292837, 0.08896530003362882,
      0.04291024867735493,
    ],
    [
      0.003210256532620476, 0.0027422799227016176, 0.0033173791903997, 0.0024126543736748456,
      0.0030872480596249477,
    ],
  ];
  for (const [i, found] of [parameters, firstMoment, secondMoment].entries()) {
    assert.ok(maxAbsError(await downloadF32(found), expected[i]!) < 3e-7);
  }
});

test('adam: tensors that do not fit and steps from 0 are refused', async () => {
  using scope = new Scope(device());
  const rec = scope.device.recorder;
  const [p, g, m, v] = [0, 1, 2, 3].map(() => scope.tensor([4, 3]));
  const tensors = { parameters: p!, gradient: g!, firstMoment: m!, secondMoment: v! };
  const options: AdamOptions = { learningRate: 0.1, step: 1 };
  assert.match(
    await rejectsWith(
      () => adam(rec, { ...tensors, gradient: scope.tensor([12]) }, options),
      'INVALID_ARGUMENT',
    ),
    "'gradient'",
  );
  await rejectsWith(() => adam(rec, tensors, { ...options, step: 0 }), 'INVALID_ARGUMENT');
});

test('cosineLoss: zero rows as in torch.cosine_similarity', async () => {
  using scope = new Scope(device());
  const p = tensor(scope, [1, 2, -3, 0, 0, 0, 0.5, 0.5, 0.5], [3, 3]);
  const d = tensor(scope, [2, 1, -1, 1, 2, 2, 0, 0, 0], [3, 3]);
  const [loss, gradient] = [scope.tensor([3]), scope.tensor([3, 3])];
  cosineLoss(scope.device.recorder, p, d, loss, gradient);
  assert.ok(maxAbsError(await downloadF32(loss), [0.2362373841740265, 1, 1]) < 1e-7);
  // From torch 2 in f64.
  const rows = [
    [-0.05455447255899809, 0, -0.018184824186332715],
    [-11111111.11111111, -22222222.22222222, -22222222.22222222],
    [0, 0, 0],
  ];
  const found = await downloadF32(gradient);
  for (const [i, row] of rows.entries()) {
    const scale = Math.max(...row.map(Math.abs)) || 1;
    assert.ok(maxAbsError(found.subarray(3 * i, 3 * i + 3), row) < 2e-7 * scale, `row ${i}`);
  }
});

test('cosineLoss: the gradient is that of the mean loss by central differences in f64', async () => {
  using scope = new Scope(device());
  const shape = [4, 9] as const;
  const [p, d] = [normals(36, 1), normals(36, 2)];
  const [loss, gradient] = [scope.tensor([4]), scope.tensor(shape)];
  cosineLoss(scope.device.recorder, tensor(scope, p, shape), tensor(scope, d, shape), loss, gradient);
  const mean = (at: number, change: number) => {
    const moved = Float64Array.from(p, (value, i) => value + (i === at ? change : 0));
    return cosineLossF64(moved, d, shape).loss.reduce((sum, value) => sum + value, 0) / shape[0];
  };
  const h = 1e-5;
  const differences = Float64Array.from(p, (_, at) => (mean(at, h) - mean(at, -h)) / (2 * h));
  assert.ok(relativeError(await downloadF32(gradient), differences) < 1e-6);
});

test('scaleRows and cosineLoss refuse shapes that do not fit and accept empty ones', async () => {
  using scope = new Scope(device());
  const rec = scope.device.recorder;
  const t = (...shape: number[]) => scope.tensor(shape);
  await rejectsWith(() => scaleRows(rec, t(4, 3), t(3), t(4, 3)), 'INVALID_ARGUMENT');
  await rejectsWith(() => scaleRows(rec, t(4, 3), t(4), t(4, 4)), 'INVALID_ARGUMENT');
  await rejectsWith(() => cosineLoss(rec, t(4, 3), t(4, 3), t(4), t(3, 3)), 'INVALID_ARGUMENT');
  await rejectsWith(() => cosineLoss(rec, t(4, 3), t(4, 2), t(4), t(4, 3)), 'INVALID_ARGUMENT');
  const before = rec.dispatches;
  scaleRows(rec, t(0, 3), t(0), t(0, 3));
  cosineLoss(rec, t(0, 3), t(0, 3), t(0), t(0, 3));
  assert.is(rec.dispatches, before);
});

test.run();
