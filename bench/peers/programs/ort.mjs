// onnxruntime-node's WebGPU execution provider. The ONNX files are made here, byte by byte in protobuf's wire format.
import ort from 'onnxruntime-node';
import { operationInputs, operationOf } from '../../../dist/bench/peers/operations.js';
import { serve, timed } from '../../../dist/bench/peers/serve.js';
import { EPS, matmulInputs, mlpInputs } from '../../../dist/bench/peers/workloads.js';

const varint = n => (n > 127 ? [(n & 127) | 128, ...varint(Math.floor(n / 128))] : [n]);
const integer = (field, n) => Buffer.from([...varint(field * 8), ...varint(n)]);
const bytes = (field, content) =>
  Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(content.length)]), content]);
const text = (field, content) => bytes(field, Buffer.from(content));
const message = (field, ...parts) => bytes(field, Buffer.concat(parts));
const FLOAT = 1;
const INT64 = 7;

/** ValueInfoProto */
const value = (field, name, dims) =>
  message(
    field,
    text(1, name),
    message(2, message(1, integer(1, FLOAT), message(2, ...dims.map(dim => message(1, integer(1, dim)))))),
  );
/** AttributeProto with a float or an integer */
const float = (name, number) => {
  const little = Buffer.alloc(4);
  little.writeFloatLE(number);
  return message(5, text(1, name), Buffer.from([2 * 8 + 5]), little, integer(20, 1));
};
const whole = (name, number) => message(5, text(1, name), integer(3, number), integer(20, 2));
const node = (op, inputs, outputs, ...attributes) =>
  message(
    1,
    ...inputs.map(name => text(1, name)),
    ...outputs.map(name => text(2, name)),
    text(4, op),
    ...attributes,
  );
const words = (name, value) => message(5, text(1, name), bytes(4, Buffer.from(value)), integer(20, 3));
const wholes = (name, numbers) =>
  message(5, text(1, name), ...numbers.map(number => integer(8, number)), integer(20, 7));
/** A constant of integers, of one dimension unless `dims` says otherwise. */
const integers = (name, numbers, dims = [numbers.length]) =>
  message(
    5,
    ...dims.map(dim => integer(1, dim)),
    integer(2, INT64),
    text(8, name),
    bytes(9, Buffer.from(BigInt64Array.from(numbers, BigInt).buffer)),
  );
/** TensorProto among the graph's constants */
const constant = (name, dims, values) =>
  message(
    5,
    ...dims.map(dim => integer(1, dim)),
    integer(2, FLOAT),
    text(8, name),
    bytes(9, Buffer.from(values.buffer)),
  );
const model = (...graph) =>
  Buffer.concat([
    integer(1, 8),
    message(8, text(1, ''), integer(2, 17)),
    message(7, text(2, 'graph'), ...graph),
  ]);

/** Keeps sessions alive: the process ends if a session is collected or released before its tensors on the device. */
const sessions = [];

async function load(file, onDevice) {
  const session = await ort.InferenceSession.create(file, {
    executionProviders: ['webgpu'],
    logSeverityLevel: 3,
    intraOpNumThreads: 1,
    // Otherwise nodes that the provider lacks would silently run on the CPU.
    extra: { session: { disable_cpu_ep_fallback: '1' } },
    ...(onDevice && { preferredOutputLocation: 'gpu-buffer' }),
  });
  sessions.push(session);
  return session;
}

/** Sends one number through the device's queue and back, which waits for all work submitted before. */
const fence = await load(model(node('Identity', ['a'], ['b']), value(11, 'a', [1]), value(12, 'b', [1])));
const one = new ort.Tensor('float32', new Float32Array(1), [1]);
const wait = () => fence.run({ a: one });

/** Copies tensors to the device: runs a session that only passes them on. */
async function upload(tensors) {
  const names = Object.keys(tensors);
  const session = await load(
    model(
      ...names.map(name => node('Identity', [name], [`${name}2`])),
      ...names.map(name => value(11, name, tensors[name].dims)),
      ...names.map(name => value(12, `${name}2`, tensors[name].dims)),
    ),
    true,
  );
  const outputs = await session.run(tensors);
  const held = Object.fromEntries(names.map(name => [name, outputs[`${name}2`]]));
  for (const name of names) {
    if (held[name].location !== 'gpu-buffer') throw new Error(`'${name}' is in ${held[name].location}`);
  }
  return held;
}

/** A graph with one output 'out', run with its inputs and output on the device. */
async function graph(file, inputs) {
  const session = await load(file, true);
  const feeds = await upload(inputs);
  const run = async repeats => {
    let last;
    for (let i = 0; i < repeats; i++) {
      last?.dispose();
      last = (await session.run(feeds)).out;
    }
    await wait();
    return last;
  };
  return {
    sample: repeats => timed(async () => (await run(repeats)).dispose()),
    result: async () => {
      const out = await run(1);
      // The tensor's own getData ends the process (onnxruntime-node 1.30.0).
      const download = await load(
        model(node('Identity', ['a'], ['b']), value(11, 'a', out.dims), value(12, 'b', out.dims)),
      );
      const { data } = (await download.run({ a: out })).b;
      out.dispose();
      return data;
    },
    dispose: () => {
      for (const tensor of Object.values(feeds)) tensor.dispose();
    },
  };
}

/** The nodes and constants of each operation on x, y and z, and which of its outputs counts. */
const operationNodes = {
  map: () => [node('Sigmoid', ['x'], ['s']), node('Sub', ['s', 'y'], ['out'])],
  mapRows: () => [node('Mul', ['x', 'y'], ['m']), node('Add', ['m', 'z'], ['out'])],
  sumLast: () => [node('ReduceSum', ['x', 'axes'], ['out'], whole('keepdims', 0)), integers('axes', [1])],
  maxFirst: () => [node('ReduceMax', ['x'], ['out'], wholes('axes', [0]), whole('keepdims', 0))],
  softmax: () => [node('Softmax', ['x'], ['out'], whole('axis', 1))],
  logSoftmax: () => [node('LogSoftmax', ['x'], ['out'], whole('axis', 1))],
  topK: out => [node('TopK', ['x', 'k'], ['out', 'places']), integers('k', [out[1]])],
  transpose: () => [node('Transpose', ['x'], ['out'], wholes('perm', [1, 0]))],
  slice: () => [
    node('Slice', ['x', 'starts', 'ends', 'axes'], ['out']),
    integers('starts', [256]),
    integers('ends', [768]),
    integers('axes', [1]),
  ],
  concat: () => [node('Concat', ['x', 'y'], ['out'], whole('axis', 1))],
  gatherRows: (_, ids) => [node('Gather', ['x', 'ids'], ['out'], whole('axis', 0)), integers('ids', ids)],
  scatterAddRows: (out, ids) => [
    node('ScatterND', ['zeros', 'ids', 'x'], ['out'], words('reduction', 'add')),
    constant('zeros', out, new Float32Array(out[0] * out[1])),
    integers('ids', ids, [ids.length, 1]),
  ],
  batchedMatmul: () => [node('MatMul', ['x', 'y'], ['out'])],
};

const tasks = {
  operation: task => {
    const { inputs, ids } = operationInputs(task);
    const { shapes, out } = operationOf(task);
    const names = ['x', 'y', 'z'].slice(0, inputs.length);
    return graph(
      model(
        ...operationNodes[task.operation](out, [...ids]),
        ...names.map((name, i) => value(11, name, shapes[i])),
        value(12, 'out', out),
      ),
      Object.fromEntries(names.map((name, i) => [name, new ort.Tensor('float32', inputs[i], shapes[i])])),
    );
  },
  matmul: task => {
    const { m, n, k } = task;
    const { a, b } = matmulInputs(task);
    return graph(
      model(
        node('MatMul', ['a', 'b'], ['out']),
        value(11, 'a', [m, k]),
        value(11, 'b', [k, n]),
        value(12, 'out', [m, n]),
      ),
      { a: new ort.Tensor('float32', a, [m, k]), b: new ort.Tensor('float32', b, [k, n]) },
    );
  },
  mlp: task => {
    const { tokens, hidden, intermediate } = task;
    const { x, gain, gate, up, down } = mlpInputs(task);
    return graph(
      model(
        node('SimplifiedLayerNormalization', ['x', 'gain'], ['z'], float('epsilon', EPS), whole('axis', 1)),
        node('MatMul', ['z', 'gate'], ['g']),
        node('MatMul', ['z', 'up'], ['u']),
        node('Sigmoid', ['g'], ['s']),
        node('Mul', ['g', 's'], ['silu']),
        node('Mul', ['silu', 'u'], ['h']),
        node('MatMul', ['h', 'down'], ['out']),
        constant('gain', [hidden], gain),
        constant('gate', [hidden, intermediate], gate),
        constant('up', [hidden, intermediate], up),
        constant('down', [intermediate, hidden], down),
        value(11, 'x', [tokens, hidden]),
        value(12, 'out', [tokens, hidden]),
      ),
      { x: new ort.Tensor('float32', x, [tokens, hidden]) },
    );
  },
};

await serve(async () => ({ version: ort.env.versions.node, tasks }));
