/** rm-engine as a measured program: `node ours.js [MODEL FOLDER]`, with the built-in choice of kernel variants. */
import { Device, downloadF32, type Recorder, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { gatedMatmul, matmul, rmsNorm } from '../../kernels/index.js';
import { generate, Model } from '../../model/index.js';
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
    tasks: { matmul: matmulTask, mlp: mlpTask, prefill, decode },
  };
});
