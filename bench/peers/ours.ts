/** rm-engine as a measured program: `node ours.js [MODEL FOLDER]`, with the built-in choice of kernel variants. */
import { Device, downloadF32, type Recorder, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import {
  concat,
  gatedMatmul,
  gatherRows,
  logSoftmax,
  map,
  matmul,
  reduce,
  rmsNorm,
  scatterAddRows,
  slice,
  softmax,
  topK,
  transpose,
} from '../../kernels/index.js';
import { generate, Model } from '../../model/index.js';
import {
  type OperationName,
  type OperationTask,
  operationInputs,
  operationOf,
  TOP_ROWS,
} from './operations.js';
import { type Prepared, type Program, serve, timed } from './serve.js';
import {
  type DecodeTask,
  EPS,
  type MatmulTask,
  type MlpTask,
  matmulInputs,
  mlpInputs,
  type PrefillTask,
  transposed,
} from './workloads.js';

await serve(async (): Promise<Program> => {
  const device = await Device.open();
  let loaded: Promise<Model> | undefined;
  const model = (): Promise<Model> => {
    loaded ??= Model.load(device, process.argv[2]!);
    return loaded;
  };

  const prepared = (scope: Scope, out: Tensor, run: (rec: Recorder) => void): Prepared => ({
    sample: repeats =>
      timed(async () => {
        for (let i = 0; i < repeats; i++) run(device.recorder);
        await device.recorder.finish();
      }),
    result: () => {
      run(device.recorder);
      return downloadF32(out);
    },
    dispose: () => scope.dispose(),
  });

  const matmulTask = async (task: MatmulTask): Promise<Prepared> => {
    const { m, n, k } = task;
    const inputs = matmulInputs(task);
    const scope = new Scope(device);
    const a = scope.own(tensorFrom(device, inputs.a, [m, k]));
    const b = scope.own(tensorFrom(device, inputs.b, [k, n]));
    const out = scope.tensor([m, n]);
    return prepared(scope, out, rec => matmul(rec, a, b, out));
  };

  /** Weights as linear layers store them, [out, in]. */
  const mlpTask = async (task: MlpTask): Promise<Prepared> => {
    const { tokens, hidden, intermediate } = task;
    const inputs = mlpInputs(task);
    const scope = new Scope(device);
    const weight = (values: Float32Array, rows: number, columns: number) =>
      scope.own(tensorFrom(device, transposed(values, rows, columns), [columns, rows]));
    const x = scope.own(tensorFrom(device, inputs.x, [tokens, hidden]));
    const gain = scope.own(tensorFrom(device, inputs.gain, [hidden]));
    const gate = weight(inputs.gate, hidden, intermediate);
    const up = weight(inputs.up, hidden, intermediate);
    const down = weight(inputs.down, intermediate, hidden);
    const z = scope.tensor([tokens, hidden]);
    const features = scope.tensor([tokens, intermediate]);
    const out = scope.tensor([tokens, hidden]);
    return prepared(scope, out, rec => {
      rmsNorm(rec, x, gain, z, EPS);
      gatedMatmul(rec, z, gate, up, features, { activation: 'silu' });
      matmul(rec, features, down, out, { transposeB: true });
    });
  };

  /** Each operation is one call, but for scatterAddRows, which adds to zeros. */
  const operation = async (task: OperationTask): Promise<Prepared> => {
    const scope = new Scope(device);
    const { inputs, ids } = operationInputs(task);
    const { shapes, out: shape } = operationOf(task);
    const [x, y, z] = inputs.map((values, i) => scope.own(tensorFrom(device, values, shapes[i]!))) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const rows = scope.own(tensorFrom(device, ids.length ? ids : Uint32Array.of(0)));
    const places = scope.tensor([TOP_ROWS, shape.at(-1)!], 'u32');
    const out = scope.tensor(shape);
    const calls: Readonly<Record<OperationName, (rec: Recorder) => void>> = {
      map: rec => map(rec, 'sigmoid(z) - y', { z: x, y }, out),
      mapRows: rec => map(rec, 'x * r + c', { x, r: y, c: z }, out),
      sumLast: rec => reduce(rec, 'sum', x, out),
      maxFirst: rec => reduce(rec, 'max', x, out, { axis: 'first' }),
      softmax: rec => softmax(rec, x, out),
      logSoftmax: rec => logSoftmax(rec, x, out),
      topK: rec => topK(rec, x, out, places),
      transpose: rec => transpose(rec, x, out),
      slice: rec => slice(rec, x, out, { start: 256 }),
      concat: rec => concat(rec, [x, y], out),
      gatherRows: rec => gatherRows(rec, x, rows, out),
      scatterAddRows: rec => {
        rec.clear(out);
        scatterAddRows(rec, x, rows, out);
      },
      batchedMatmul: rec => matmul(rec, x, y, out),
    };
    return prepared(scope, out, calls[task.operation]);
  };

  const prefill = async ({ ids }: PrefillTask): Promise<Prepared> => {
    const loadedModel = await model();
    return { sample: () => timed(() => generate(loadedModel, ids, { maxTokens: 1 })) };
  };

  const decode = async ({ ids, tokens }: DecodeTask): Promise<Prepared> => {
    const loadedModel = await model();
    return {
      sample: async () => {
        const times: number[] = [];
        // The prompt's pass makes the first token, `tokens` steps make the others.
        await generate(loadedModel, ids, {
          maxTokens: tokens + 1,
          onToken: () => times.push(performance.now()),
        });
        return times.at(-1)! - times[0]!;
      },
    };
  };

  return {
    version: 'this checkout',
    adapter: device.info,
    tasks: { matmul: matmulTask, mlp: mlpTask, operation, prefill, decode },
  };
});
