// @jax-js/jax with its WebGPU backend under Node, functions compiled by jit.
import { readFileSync } from 'node:fs';
import { serve, timed } from '../../../dist/bench/peers/serve.js';
import { EPS, matmulInputs, mlpInputs } from '../../../dist/bench/peers/workloads.js';
import { adapterName } from './webgpuGlobals.mjs';

await serve(async () => {
  const { defaultDevice, init, jit, nn, numpy: np } = await import('@jax-js/jax');
  const devices = await init();
  if (!devices.includes('webgpu')) throw new Error(`has no webgpu device here, only ${devices.join(', ')}`);
  defaultDevice('webgpu');
  const array = (values, shape) => np.array(values, { dtype: np.float32 }).reshape(shape);

  /** Functions consume their arguments; `.ref` keeps them. */
  const prepared = (inputs, compiled) => {
    const run = () => compiled(...inputs.map(input => input.ref));
    return {
      sample: repeats =>
        timed(async () => {
          const results = Array.from({ length: repeats }, run);
          for (const result of results) await result.blockUntilReady();
          for (const result of results) result.dispose();
        }),
      result: () => run().data(),
      dispose: () => inputs.forEach(input => void input.dispose()),
    };
  };

  const matmul = async task => {
    const { m, n, k } = task;
    const { a, b } = matmulInputs(task);
    return prepared(
      [array(a, [m, k]), array(b, [k, n])],
      jit((x, y) => np.matmul(x, y)),
    );
  };
  const mlp = async task => {
    const { tokens, hidden, intermediate } = task;
    const inputs = mlpInputs(task);
    return prepared(
      [
        array(inputs.x, [tokens, hidden]),
        array(inputs.gain, [hidden]),
        array(inputs.gate, [hidden, intermediate]),
        array(inputs.up, [hidden, intermediate]),
        array(inputs.down, [intermediate, hidden]),
      ],
      jit((x, gain, gate, up, down) => {
        const square = np.mean(np.square(x.ref), 1, { keepdims: true });
        const z = x.div(np.sqrt(square.add(EPS))).mul(gain);
        const features = nn.silu(np.matmul(z.ref, gate)).mul(np.matmul(z, up));
        return np.matmul(features, down);
      }),
    );
  };
  const { version } = JSON.parse(
    readFileSync(new URL('../node_modules/@jax-js/jax/package.json', import.meta.url), 'utf8'),
  );
  return { version, adapter: await adapterName(), tasks: { matmul, mlp } };
});
