// TensorFlow.js' WebGPU backend under Node.
import { createRequire } from 'node:module';
import { operationInputs, operationOf } from '../../../dist/bench/peers/operations.js';
import { serve, timed } from '../../../dist/bench/peers/serve.js';
import { EPS, matmulInputs, mlpInputs } from '../../../dist/bench/peers/workloads.js';
import { adapterName } from './webgpuGlobals.mjs';

const require = createRequire(import.meta.url);

await serve(async () => {
  // Reads navigator.gpu while it loads.
  const tf = require('@tensorflow/tfjs-core');
  require('@tensorflow/tfjs-backend-webgpu');
  if (!(await tf.setBackend('webgpu'))) throw new Error('the webgpu backend does not start');
  const backend = tf.backend();

  const wait = async () => {
    // The backend submits every 15 dispatches; this is the rest.
    backend.endComputePassEncoder();
    backend.submitQueue();
    await backend.device.queue.onSubmittedWorkDone();
  };
  const prepared = (inputs, run) => ({
    sample: repeats =>
      timed(async () => {
        for (let i = 0; i < repeats; i++) run().dispose();
        await wait();
      }),
    result: () => run().data(),
    dispose: () => inputs.forEach(tensor => void tensor.dispose()),
  });

  const matmul = async task => {
    const { m, n, k } = task;
    const { a, b } = matmulInputs(task);
    const [left, right] = [tf.tensor2d(a, [m, k]), tf.tensor2d(b, [k, n])];
    return prepared([left, right], () => tf.matMul(left, right));
  };
  const mlp = async task => {
    const { tokens, hidden, intermediate } = task;
    const inputs = mlpInputs(task);
    const x = tf.tensor2d(inputs.x, [tokens, hidden]);
    const gain = tf.tensor1d(inputs.gain);
    const gate = tf.tensor2d(inputs.gate, [hidden, intermediate]);
    const up = tf.tensor2d(inputs.up, [hidden, intermediate]);
    const down = tf.tensor2d(inputs.down, [intermediate, hidden]);
    return prepared([x, gain, gate, up, down], () =>
      tf.tidy(() => {
        const factor = tf.rsqrt(tf.add(tf.mean(tf.square(x), 1, true), EPS));
        const z = tf.mul(tf.mul(x, factor), gain);
        const g = tf.matMul(z, gate);
        const features = tf.mul(tf.mul(g, tf.sigmoid(g)), tf.matMul(z, up));
        return tf.matMul(features, down);
      }),
    );
  };
  const operation = async task => {
    const { inputs, ids } = operationInputs(task);
    const { shapes, out } = operationOf(task);
    const [x, y, z] = inputs.map((values, i) => tf.tensor(values, shapes[i]));
    const rows = tf.tensor1d(Int32Array.from(ids.length ? ids : [0]), 'int32');
    const places = tf.reshape(rows, [-1, 1]);
    const calls = {
      map: () => tf.tidy(() => tf.sub(tf.sigmoid(x), y)),
      mapRows: () => tf.tidy(() => tf.add(tf.mul(x, y), z)),
      sumLast: () => tf.sum(x, 1),
      maxFirst: () => tf.max(x, 0),
      softmax: () => tf.softmax(x),
      logSoftmax: () => tf.tidy(() => tf.logSoftmax(x)),
      topK: () => tf.tidy(() => tf.topk(x, out[1]).values),
      transpose: () => tf.transpose(x),
      slice: () => tf.slice(x, [0, 256], out),
      concat: () => tf.concat([x, y], 1),
      gatherRows: () => tf.gather(x, rows),
      scatterAddRows: () => tf.scatterND(places, x, out),
      batchedMatmul: () => tf.matMul(x, y),
    };
    return prepared([x, y, z, rows, places].filter(Boolean), calls[task.operation]);
  };
  return { version: tf.version_core, adapter: await adapterName(), tasks: { matmul, mlp, operation } };
});
