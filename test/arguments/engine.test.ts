/**
 * Calls the public functions of engine and kernels with arguments that do not fit: the call returns or throws an RmError, never
 * returns where an argument is of another type, and the device goes on computing. Every export has a recipe here, or a word
 * why not. Costs 15 s (30 s on a busy machine); RM_FUZZ_PAIRS=1000 changes two arguments at once so many times, RM_FUZZ_SEED begins elsewhere.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as engine from '../../engine/public.js';
import * as kernels from '../../kernels/public.js';
import { assertSameNames, callables, type Recipe, tryWrongArguments } from './wrongArguments.js';

const { Device, Scope, Tensor, tensorFrom } = engine;
type DType = engine.DType;

/** Why these are not called. */
const notCalled: Readonly<Record<string, readonly string[]>> = {
  'throws what it is told to': ['ensure', 'RmError'],
  'no public constructor': ['Device', 'Recorder', 'Tensor'],
  'takes nothing': [
    'listAdapters',
    ...'readCard check settle drain reclaim close'.split(' ').map(name => `Device.${name}`),
    ...'flush finish close'.split(' ').map(name => `Recorder.${name}`),
    ...['Scope.releaseAll', 'Scope.dispose', 'Tensor.dispose'],
  ],
  '@internal': [
    ...'expect wait explain fail recover errorsOf'.split(' ').map(name => `Device.${name}`),
    ...'copyOut copyIn forget'.split(' ').map(name => `Recorder.${name}`),
  ],
};

test('wrong arguments: no raw error, no dead device, no silent result', async () => {
  await using device = await Device.open();
  await using other = await Device.open();
  const scope = new Scope(device);
  const t = (shape: readonly number[], dtype: DType = 'f32') => {
    const tensor = scope.tensor(shape, dtype, `${shape} ${dtype}`);
    rec.clear(tensor);
    return tensor;
  };
  const u = (...shape: number[]) => t(shape, 'u32');
  const pair = (...shape: number[]) => ({ hi: t(shape), lo: t(shape) });
  const diagonal = (n: number) =>
    scope.own(
      tensorFrom(
        device,
        Float32Array.from({ length: n * n }, (_, i) => (i % (n + 1) ? 0 : 2)),
        [n, n],
      ),
    );
  const spd = (n: number) => ({ hi: diagonal(n), lo: t([n, n]) });
  const rec = device.recorder;
  const predictions = () => ({ hidden: t([4, 8]), head: t([12, 8]), form: { factor: 1, softcap: 30 } });
  const gradients = () => ({ hidden: t([4, 8]), head: t([12, 8]) });
  const top = () => ({ ids: u(4, 3), logProbabilities: t([4, 3]), logRest: t([4]) });
  const heads = { heads: 2, kvHeads: 1, headDim: 4, scale: 0.5, softcap: 30, mostKeys: 3, ownKeys: false };
  const qkv = () => ({ q: t([3, 8]), k: t([3, 4]), v: t([3, 4]), ranges: u(3, 2), out: t([3, 8]) });
  const scale: engine.ProgramSpec = {
    key: 'scale',
    params: { factor: 'f32' },
    bindings: { x: 'write f32' },
    wgsl: '@compute @workgroup_size(1) fn main() { x[0] *= p.factor; }',
  };
  const flat = {
    key: 'flat',
    bindings: ['write'] as const,
    declarations: '@group(0) @binding(1) var<storage, read_write> x: array<f32>;',
    body: 'x[i] = 1.0;',
  };
  const row = { ...flat, key: 'row', body: 'x[row] = 1.0;' };
  const work = { flops: 1, bytes: 1 };
  const call = (
    work: (...args: never[]) => unknown,
    args: () => readonly unknown[],
    refusedOnly = false,
  ): Recipe => ({ call: work, args, refusedOnly });
  const method = (of: () => object, name: string, args: () => readonly unknown[]): Recipe =>
    call(
      (...given: never[]) => (of() as Record<string, (...args: never[]) => unknown>)[name]!(...given),
      args,
    );

  const ofEngine: Record<string, Recipe> = {
    'Device.open': call(
      Device.open,
      () => [
        {
          adapter: 'x',
          memoryLimit: 1e9,
          capacity: 1e9,
          bindingLimit: 1e9,
          profile: false,
          limits: {},
          features: ['x'],
        },
      ],
      true,
    ),
    'Device.from': call(Device.from, () => [device.gpu, { memoryLimit: 1e9, profile: false }], true),
    'Device.compile': method(
      () => device,
      'compile',
      () => [scale],
    ),
    'Device.section': method(
      () => device,
      'section',
      () => ['name'],
    ),
    'Recorder.dispatch': method(
      () => rec,
      'dispatch',
      () => [
        { program: scale, tensors: { x: t([4]) }, params: { factor: 2 }, grid: [1], flops: 1, bytes: 1 },
      ],
    ),
    'Recorder.copy': method(
      () => rec,
      'copy',
      () => [t([4]), t([4])],
    ),
    'Recorder.clear': method(
      () => rec,
      'clear',
      () => [t([4])],
    ),
    Scope: call(
      (...args: never[]) => new Scope(...(args as unknown as [engine.Device])),
      () => [device],
    ),
    'Scope.tensor': method(
      () => scope,
      'tensor',
      () => [[4, 4], 'f32', 'x'],
    ),
    'Scope.weights': method(
      () => scope,
      'weights',
      () => [[4, 4], 'f32', 'x'],
    ),
    'Scope.own': method(
      () => scope,
      'own',
      () => [t([4])],
    ),
    'Scope.release': method(
      () => scope,
      'release',
      () => [t([4])],
    ),
    'Tensor.create': call(Tensor.create, () => [device, [4], 'f32', 'x', 'weights']),
    'Tensor.fromBuffer': call(Tensor.fromBuffer, () => [
      device,
      t([64]).buffer.gpu,
      [4, 4],
      'f32',
      { byteOffset: 0, label: 'x' },
    ]),
    'Tensor.rows': method(
      () => t([4, 64]),
      'rows',
      () => [1, 2],
    ),
    'Tensor.reshape': method(
      () => t([4, 4]),
      'reshape',
      () => [[2, 8]],
    ),
    byteSize: call(engine.byteSize, () => ['f32']),
    decodeToF32: call(engine.decodeToF32, () => [new Uint8Array(8), 'bf16']),
    encodeFromF32: call(engine.encodeFromF32, () => [new Float32Array(2), 'bf16']),
    elementCount: call(engine.elementCount, () => [[2, 2]]),
    f32Bits: call(engine.f32Bits, () => [1]),
    flatGrid: call(engine.flatGrid, () => [4]),
    programFamily: call(engine.programFamily, () => [() => scale]),
    download: call(engine.download, () => [t([4])]),
    downloadF32: call(engine.downloadF32, () => [t([4])]),
    downloadInto: call(engine.downloadInto, () => [t([4]), new Float32Array(4)]),
    downloadU32: call(engine.downloadU32, () => [u(4)]),
    tensorFrom: call(engine.tensorFrom, () => [
      device,
      new Float32Array(4),
      [4],
      { dtype: 'f32', label: 'x' },
    ]),
    tensorFromBytes: call(engine.tensorFromBytes, () => [device, new Uint8Array(16), [4], 'f32', 'x']),
    upload: call(engine.upload, () => [t([4]), new Uint8Array(16)]),
  };

  const k = kernels;
  const packed = {
    ...{ codes: 'u4' as const, columns: 32, groups: 1, groupColumns: 32 },
    ...{ zero: 8, ordered: false },
  };
  const ofKernels: Record<string, Recipe> = {
    map: {
      ...call(k.map, () => [rec, 'x * y + 2', { x: t([4, 4]), y: t([4]) }, t([4, 4])]),
      takes: { '2.x': ['number'], '2.y': ['number'] },
    },
    reduce: call(k.reduce, () => [rec, 'sum', t([4, 8]), t([4]), { axis: 'last', accumulate: true }]),
    softmax: call(k.softmax, () => [rec, t([4, 8]), t([4, 8])]),
    logSoftmax: call(k.logSoftmax, () => [rec, t([4, 8]), t([4, 8])]),
    topK: call(k.topK, () => [rec, t([4, 8]), t([4, 2]), u(4, 2)]),
    transpose: call(k.transpose, () => [rec, t([4, 8]), t([8, 4]), [1, 0]]),
    slice: call(k.slice, () => [rec, t([4, 8]), t([4, 2]), { start: 1, axis: 1, step: 2 }]),
    concat: call(k.concat, () => [rec, [t([4, 8]), t([4, 8])], t([8, 8]), { axis: 0 }]),
    gatherRows: call(k.gatherRows, () => [rec, t([4, 4]), u(3), t([3, 4])]),
    scatterAddRows: call(k.scatterAddRows, () => [rec, t([3, 4]), u(3), t([4, 4])]),
    add: call(k.add, () => [rec, t([4]), t([4]), t([4])]),
    addInto: call(k.addInto, () => [rec, t([4]), t([4])]),
    axpy: call(k.axpy, () => [rec, 2, t([4]), t([4])]),
    scale: call(k.scale, () => [rec, t([4]), 2]),
    softcap: call(k.softcap, () => [rec, t([4]), 30, 1]),
    scaleRows: call(k.scaleRows, () => [rec, t([3, 8]), t([3]), t([3, 4]), 4]),
    convert: call(k.convert, () => [rec, t([4]), t([4], 'bf16')]),
    dequantize: call(k.dequantize, () => [rec, u(9), 'Q8_0', t([32])]),
    dequantizeRows: call(k.dequantizeRows, () => [rec, u(10), packed, t([2, 32])]),
    recordWords: call(k.recordWords, () => [packed]),
    recordBytes: call(k.recordBytes, () => [packed]),
    codeBits: call(k.codeBits, () => ['u4']),
    blockBytes: call(k.blockBytes, () => ['Q8_0', 32]),
    adam: call(k.adam, () => [
      rec,
      {
        parameters: t([8]),
        gradient: t([8]),
        firstMoment: t([8]),
        secondMoment: t([8]),
        working: t([8], 'f16'),
      },
      {
        learningRate: 1e-3,
        step: 1,
        beta1: 0.9,
        beta2: 0.9,
        epsilon: 1e-8,
        l1: 0,
        l2: 0,
        weightDecay: 0,
        gradientScale: 1,
      },
    ]),
    activationBackward: call(k.activationBackward, () => [
      rec,
      t([4, 4]),
      t([4, 4]),
      { activation: 'silu', features: t([4, 4]) },
    ]),
    gatedActivationBackward: call(k.gatedActivationBackward, () => [
      rec,
      t([4, 4]),
      t([4, 4]),
      t([4, 4]),
      { activation: 'silu', features: t([4, 4]) },
    ]),
    attention: call(k.attention, () => {
      const { q, k, v, ranges, out } = qkv();
      return [rec, q, k, v, ranges, out, heads];
    }),
    attentionBackward: call(k.attentionBackward, () => [
      rec,
      qkv(),
      t([3, 8]),
      { q: t([3, 8]), k: t([3, 4]), v: t([3, 4]) },
      heads,
    ]),
    fill: call(k.fill, () => [rec, t([4, 4]), 2]),
    random: call(k.random, () => [rec, t([4, 4]), { seed: 1, distribution: 'normal' }]),
    padHeads: call(k.padHeads, () => [rec, t([3, 8]), 2, t([3, 16])]),
    embedding: call(k.embedding, () => [rec, t([4, 4]), u(3), t([3, 4])]),
    embeddingBackward: call(k.embeddingBackward, () => [rec, u(3), t([3, 4]), t([5, 4])]),
    rope: call(k.rope, () => [
      rec,
      t([4, 8]),
      t([4, 4]),
      u(4),
      t([9, 4]),
      {
        headDim: 4,
        transpose: false,
        store: { v: t([4, 4]), keys: t([5, 4]), values: t([5, 4]), rows: u(4) },
      },
    ]),
    ropeTable: call(k.ropeTable, () => [new Float64Array(2), 4, 1]),
    gram: call(k.gram, () => [rec, t([4, 4]), t([4]), pair(4, 4), { variant: { variant: 'tiled' } }]),
    crossGram: call(k.crossGram, () => [
      rec,
      t([4, 4]),
      t([4, 8]),
      t([4]),
      pair(4, 8),
      { variant: { variant: 'tiled' } },
    ]),
    matmul: call(k.matmul, () => [
      rec,
      t([4, 4]),
      t([4, 4]),
      t([4, 4]),
      {
        transposeA: false,
        transposeB: true,
        accumulate: true,
        lower: false,
        bias: t([4]),
        activation: 'gelu',
        residual: t([4, 4]),
        variant: { variant: 'tiled', rows: 64, columns: 64, splits: 1 },
      },
    ]),
    gatedMatmul: call(k.gatedMatmul, () => [
      rec,
      t([5, 4]),
      t([4, 4]),
      t([4, 4]),
      t([5, 4]),
      {
        activation: 'silu',
        gateBias: t([4]),
        upBias: t([4]),
        variant: { variant: 'tiled', rows: 64, columns: 128, splits: 1 },
      },
    ]),
    matmulName: call(k.matmulName, () => [{ variant: 'tiled', rows: 64, columns: 64, splits: 1 }]),
    matmulVariants: call(k.matmulVariants, () => [
      device,
      { m: 8, n: 8, k: 8, transposeA: false, transposeB: true },
      { a: 'f32', b: 'bf16' },
      false,
    ]),
    layerNorm: call(k.layerNorm, () => [rec, t([4, 8]), t([8]), t([8]), t([4, 8]), 1e-5]),
    rmsNorm: call(k.rmsNorm, () => [rec, t([4, 8]), t([8]), t([4, 8]), 1e-5, 1]),
    layerNormBackward: call(k.layerNormBackward, () => [
      rec,
      t([4, 8]),
      t([8]),
      t([4, 8]),
      t([4, 8]),
      { eps: 1e-5, accumulate: true, weightGradient: t([8]), biasGradient: t([8]) },
    ]),
    rmsNormBackward: call(k.rmsNormBackward, () => [
      rec,
      t([4, 8]),
      t([8]),
      t([4, 8]),
      t([4, 8]),
      { eps: 1e-5, offset: 1, accumulate: true, weightGradient: t([8]) },
    ]),
    argmax: call(k.argmax, () => [rec, t([4, 8]), u(4)]),
    columnSums: call(k.columnSums, () => [rec, t([4, 8]), t([8]), { accumulate: true, times: t([4, 8]) }]),
    cosineDistance: call(k.cosineDistance, () => [rec, t([4, 8]), t([4, 8]), t([4])]),
    cosineLoss: call(k.cosineLoss, () => [rec, t([4, 8]), t([4, 8]), t([4]), t([4, 8])]),
    countNonFinite: call(k.countNonFinite, () => [rec, t([4]), u(1)]),
    rowDots: call(k.rowDots, () => [rec, t([4, 8]), t([4, 8]), t([4])]),
    rowNorms: call(k.rowNorms, () => [rec, t([4, 8]), t([4])]),
    addSquaredNorm: call(k.addSquaredNorm, () => [rec, t([4, 8]), t([1])]),
    topExperts: call(k.topExperts, () => [rec, t([4, 8]), 2, t([4, 8]), { overAll: true }]),
    clearDoubleSingle: call(k.clearDoubleSingle, () => [rec, pair(4)]),
    createDoubleSingle: call(k.createDoubleSingle, () => [scope, [4], 'x']),
    disposeDoubleSingle: call(k.disposeDoubleSingle, () => [kernels.createDoubleSingle(device, [4])]),
    downloadF64: call(k.downloadF64, () => [pair(4)]),
    uploadF64: call(
      async (...args: never[]) =>
        kernels.disposeDoubleSingle(
          await (k.uploadF64 as (...args: never[]) => Promise<kernels.DoubleSingle>)(...args),
        ),
      () => [device, [1, 2], [2], 'x'],
    ),
    flatProgram: {
      ...call(k.flatProgram, () => [{ ...flat, fields: 'a: f32' }]),
      takes: { '0.declarations': ['function'] },
    },
    flatType: call(k.flatType, () => [4]),
    runFlat: call(k.runFlat, () => [rec, k.flatProgram(flat), [t([4])], 4, [], work]),
    rowProgram: call(k.rowProgram, () => [{ ...row, fields: 'a: f32' }]),
    runRows: call(k.runRows, () => [rec, k.rowProgram(row), [t([4])], [4, 1], [], work]),
    rowTiles: call(k.rowTiles, () => [t([4, 4]), 2]),
    scalarTensor: call(k.scalarTensor, () => ['x', 1, 'f32']),
    vec4Tensor: call(k.vec4Tensor, () => ['x', 1, 'bf16']),
    workgroupReduction: call(k.workgroupReduction, () => ['sum', 64, 'f32', 'a + b']),
    addDiagonal: call(k.addDiagonal, () => [rec, pair(4, 4), 1]),
    cholesky: call(k.cholesky, () => [rec, diagonal(4), { minimumPivot: 0, inverseBlock: 32 }]),
    polar: call(
      async (...args: never[]) =>
        (await (k.polar as (...args: never[]) => Promise<kernels.PolarFactor>)(...args)).factor,
      () => [device, diagonal(4), { label: 'x' }],
    ),
    quadraticLoss: call(k.quadraticLoss, () => [device, diagonal(4), t([4, 2]), t([4, 2])]),
    solveResidual: call(k.solveResidual, () => [rec, spd(4), pair(4, 2), pair(4, 2), pair(4, 2), {}]),
    solveRidgePath: call(k.solveRidgePath, () => [
      device,
      diagonal(4),
      t([4, 2]),
      [1],
      { scaled: true, label: 'x' },
    ]),
    solveSpd: call(k.solveSpd, () => [
      device,
      spd(4),
      pair(4, 2),
      { shift: 1, tolerance: 1e-6, accuracy: 1e-7, label: 'x' },
    ]),
    solveSpdPath: call(k.solveSpdPath, () => [
      device,
      spd(4),
      pair(4, 2),
      [1],
      { tolerance: 1e-6, accuracy: 1e-7, label: 'x' },
    ]),
    symmetrize: call(k.symmetrize, () => [rec, pair(4, 4)]),
    triangularSolve: call(k.triangularSolve, () => {
      const { u, n, inverses, inverseBlock, variant, panel } = k.cholesky(rec, diagonal(4));
      return [rec, { u, n, inverses, inverseBlock, variant, panel }, t([4, 2]), { transpose: true }];
    }),
    compareDistributions: call(k.compareDistributions, () => [
      rec,
      predictions(),
      predictions(),
      u(4),
      { nllA: t([4]), nllB: t([4]), kl: t([4]), topA: u(4), topB: u(4) },
    ]),
    crossEntropyLoss: call(k.crossEntropyLoss, () => [rec, predictions(), u(4), t([4]), t([4]), gradients()]),
    klLoss: call(k.klLoss, () => [rec, predictions(), predictions(), t([4]), t([4]), gradients()]),
    logitTile: call(k.logitTile, () => [rec, t([4, 8]), t([12, 8]), t([4, 12]), { factor: 2, softcap: 30 }]),
    logLikelihood: call(k.logLikelihood, () => [
      rec,
      t([4, 8]),
      t([12, 8]),
      u(4),
      t([4]),
      { form: { factor: 2, softcap: 30 }, below: t([4]) },
    ]),
    sampleTokens: call(k.sampleTokens, () => [
      rec,
      t([4, 8]),
      u(4),
      u(4),
      { temperature: 1, topK: 2, topP: 0.5 },
    ]),
    topKlLoss: call(k.topKlLoss, () => [rec, predictions(), top(), t([4]), t([4]), gradients()]),
    topLogProbabilities: call(k.topLogProbabilities, () => [rec, predictions(), top()]),
  };

  const without = Object.values(notCalled).flat();
  for (const name of ['download', 'downloadF32', 'downloadInto', 'upload'])
    ofEngine[name] = { ...ofEngine[name]!, harmless: ['foreign'] };
  ofEngine['Scope.release'] = { ...ofEngine['Scope.release']!, harmless: ['foreign', 'disposed'] };
  // A label alone.
  ofEngine.tensorFrom = { ...ofEngine.tensorFrom!, takes: { '3': ['text'] } };
  ofKernels.rowTiles = { ...ofKernels.rowTiles!, harmless: ['foreign'] };
  ofEngine['Scope.own'] = { ...ofEngine['Scope.own']!, harmless: ['disposed'] };
  ofKernels.disposeDoubleSingle = { ...ofKernels.disposeDoubleSingle!, harmless: ['foreign', 'disposed'] };
  const known = [...without, ...Object.keys(ofEngine), ...Object.keys(ofKernels)];
  const exported = [...callables(engine), ...callables(kernels)];
  assertSameNames(known, exported);

  const mine = new Scope(device);
  const others = [[4], [4, 4], [0], [3, 4, 4]].flatMap(shape =>
    (['f32', 'bf16', 'u32'] as const).map(dtype => mine.tensor(shape, dtype, `other ${shape} ${dtype}`)),
  );
  using foreign = tensorFrom(other, [1, 2, 3, 4], [4], 'foreign');
  const disposed = Tensor.create(device, [4], 'f32', 'disposed');
  disposed.dispose();
  const check = mine.own(tensorFrom(device, [1, 2, 3], [3]));
  const sum = mine.tensor([3]);
  const after = async (): Promise<string | undefined> => {
    scope.dispose();
    try {
      kernels.add(rec, check, check, sum);
      const values = [...(await engine.downloadF32(sum))];
      return values.join() === '2,4,6' ? undefined : `1 + 1 = ${values}`;
    } catch (error) {
      return `the device failed: ${(error as Error).message}`;
    }
  };
  const started = performance.now();
  const outcome = await tryWrongArguments({ ...ofEngine, ...ofKernels }, others, [foreign, disposed], {
    after,
    pairs: Number(process.env.RM_FUZZ_PAIRS ?? 4),
    seed: Number(process.env.RM_FUZZ_SEED ?? 1),
  });
  mine.dispose();
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  console.log(
    `${exported.length - without.length} functions, ${outcome.calls} calls, ${outcome.faults.size} faults, ${seconds} s`,
  );
  for (const fault of outcome.faults.values()) console.log(fault);
  assert.is(outcome.faults.size, 0);
});

test.run();
