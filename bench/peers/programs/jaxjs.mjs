// @jax-js/jax with its WebGPU backend under Node, functions compiled by jit.
import { readFileSync } from 'node:fs';
import { operationInputs, operationOf } from '../../../dist/bench/peers/operations.js';
import { serve, timed } from '../../../dist/bench/peers/serve.js';
import { EPS, matmulInputs, mlpInputs } from '../../../dist/bench/peers/workloads.js';
import { adapterName } from './webgpuGlobals.mjs';

await serve(async () => {
  const { defaultDevice, init, jit, lax, nn, numpy: np } = await import('@jax-js/jax');
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
  const operation = async task => {
    const { inputs, ids } = operationInputs(task);
    const { shapes, out } = operationOf(task);
    const given = inputs.map((values, i) => array(values, shapes[i]));
    if (ids.length) given.push(np.array(Int32Array.from(ids), { dtype: np.int32 }));
    const calls = {
      map: (z, y) => nn.sigmoid(z).sub(y),
      mapRows: (x, row, column) => x.mul(row).add(column),
      sumLast: x => np.sum(x, 1),
      maxFirst: x => np.max(x, 0),
      softmax: x => nn.softmax(x, 1),
      logSoftmax: x => nn.logSoftmax(x, 1),
      topK: x => lax.topK(x, out[1])[0],
      transpose: x => np.transpose(x),
      slice: x => x.slice([], [256, 768]),
      concat: (x, y) => np.concatenate([x, y], 1),
      gatherRows: (x, rows) => np.take(x, rows, 0),
      batchedMatmul: (x, y) => np.matmul(x, y),
    };
    const call = calls[task.operation];
    if (!call) throw new Error(`has no ${task.operation}`);
    // A transpose alone would be a view that later operations read.
    return prepared(given, jit(call));
  };
  const { version } = JSON.parse(
    readFileSync(new URL('../node_modules/@jax-js/jax/package.json', import.meta.url), 'utf8'),
  );
  return { version, adapter: await adapterName(), tasks: { matmul, mlp, operation } };
});
