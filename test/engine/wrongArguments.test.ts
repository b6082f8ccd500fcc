/**
 * Calls the public functions of engine and kernels with arguments that do not fit: whatever they are, the call returns or
 * throws an RmError, and the device goes on computing. Costs 4 s; RM_FUZZ_SECONDS=600 goes on longer, RM_FUZZ_SEED begins
 * elsewhere.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { seededRandom } from '../../engine/index.js';
import * as engine from '../../engine/public.js';
import * as kernels from '../../kernels/public.js';

const seconds = Number(process.env.RM_FUZZ_SECONDS ?? 2);
const seed = Number(process.env.RM_FUZZ_SEED ?? 1);

const { Device, RmError, Scope, Tensor, tensorFrom } = engine;

type Callable = (...args: unknown[]) => unknown;
/** `ensure` throws what it is told to; `listAdapters` takes nothing and starts an instance of Dawn. */
const notCalled = ['ensure', 'listAdapters'];
/** These make WGSL from words, without a device: what is wrong is found when the program is compiled. */
const makeText = [
  'scalarTensor',
  'vec4Tensor',
  'workgroupReduction',
  'flatType',
  'flatProgram',
  'rowProgram',
  'blockBytes',
];
/** These take objects of tensors or settings, which only TypeScript checks so far. */
const takeObjects = [
  ...[
    'activationBackward',
    'adam',
    'attention',
    'attentionBackward',
    'compareDistributions',
    'crossEntropyLoss',
  ],
  ...[
    'gatedActivationBackward',
    'gatedMatmul',
    'klLoss',
    'layerNormBackward',
    'logitTile',
    'matmul',
    'matmulName',
  ],
  ...[
    'matmulVariants',
    'polar',
    'quadraticLoss',
    'rmsNormBackward',
    'rope',
    'ropeTable',
    'rowTiles',
    'runFlat',
    'runRows',
  ],
  ...[
    'sampleTokens',
    'solveResidual',
    'solveRidgePath',
    'solveSpd',
    'solveSpdPath',
    'symmetrize',
    'topKlLoss',
  ],
  ...[
    'topLogProbabilities',
    'triangularSolve',
    'clearDoubleSingle',
    'createDoubleSingle',
    'disposeDoubleSingle',
  ],
  ...[
    'downloadF64',
    'uploadF64',
    'logLikelihood',
    'columnSums',
    'dequantize',
    'gram',
    'crossGram',
    'cholesky',
    'addDiagonal',
  ],
];
const left = new Set([...notCalled, ...makeText, ...takeObjects]);
const isFunction = ([name, value]: [string, unknown]) =>
  typeof value === 'function' && !/^[A-Z]/.test(name) && !left.has(name);
const functionsOf = (module: object): [string, Callable][] =>
  Object.entries(module).filter(isFunction) as [string, Callable][];

test('wrong arguments: no raw error, no dead device, no silent result', async () => {
  await using device = await Device.open();
  await using other = await Device.open();
  using scope = new Scope(device);
  const shapes = [[1], [4], [8], [1, 4], [4, 4], [2, 3], [2, 8], [3, 4, 4]];
  const own = shapes.flatMap(shape =>
    (['f32', 'f16', 'bf16', 'u32'] as const).map(dtype => {
      const tensor = scope.tensor(shape, dtype, `${shape} ${dtype}`);
      device.recorder.clear(tensor);
      return tensor;
    }),
  );
  using foreign = tensorFrom(other, [1, 2, 3, 4], [4], 'foreign');
  using disposed = Tensor.create(device, [4], 'f32', 'disposed');
  disposed.dispose();
  /** What no function takes, wherever it stands. */
  const never = new Set<unknown>([foreign, foreign.reshape([1, 4]), disposed, Symbol('x')]);
  const plain = [
    undefined,
    null,
    true,
    0,
    1,
    4,
    -1,
    2.5,
    Number.NaN,
    2 ** 40,
    'x',
    'f32',
    '',
    {},
    [],
    [4],
    [2, 2],
  ];
  const objects = [
    ...[
      { hi: own[16], lo: own[16] },
      { hi: foreign, lo: 1 },
      { hidden: own[16], head: own[16] },
    ],
    ...[
      new Float32Array(4),
      new Float64Array(3),
      new Uint8Array(16),
      new Int32Array(4),
      () => {},
      async () => {},
    ],
    ...[device, device.recorder, scope, { key: 'x', bindings: ['write'], wgsl: () => 'x' }],
    ...[{ variant: 'x' }, { variant: {} }, { transposeA: true }, { bias: 1 }, { accumulate: 'x' }],
  ];
  const random = seededRandom(seed);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!;
  const any = () => {
    const die = random();
    if (die < 0.55) return pick(own);
    return die < 0.75 ? pick(plain) : die < 0.9 ? pick(objects) : pick([...never]);
  };
  const method = (name: string, target: object, key: string): [string, Callable] => [
    name,
    (target as Record<string, Callable>)[key]!.bind(target),
  ];
  const functions: [string, Callable, first?: unknown][] = [
    ...functionsOf(kernels).map(([name, work]): [string, Callable, unknown?] => [
      name,
      work,
      device.recorder,
    ]),
    ...functionsOf(engine).map(([name, work]): [string, Callable, unknown?] => [name, work, device]),
    ...['dispatch', 'copy', 'clear'].map(name => method(`recorder.${name}`, device.recorder, name)),
    ...['rows', 'reshape'].map(name => method(`tensor.${name}`, own[16]!, name)),
    method('device.compile', device, 'compile'),
    [...method('Tensor.create', Tensor, 'create'), device],
  ];
  const check = tensorFrom(device, [1, 2, 3], [3]);
  const sum = scope.tensor([3]);
  const faults = new Map<string, string>();
  const worksStill = async (): Promise<string | undefined> => {
    try {
      kernels.add(device.recorder, check, check, sum);
      const values = [...(await engine.downloadF32(sum))];
      return values.join() === '2,4,6' ? undefined : `1 + 1 = ${values}`;
    } catch (error) {
      return (error as Error).message;
    }
  };
  let calls = 0;
  const end = performance.now() + 1000 * seconds;
  outer: for (let round = 0; performance.now() < end; round++) {
    for (const [name, work, first] of functions) {
      const args = Array.from({ length: Math.floor(random() * (work.length + 2)) }, any);
      if (first !== undefined && args.length > 0 && random() < 0.95) args[0] = first;
      calls++;
      const shown = `${name}(${args.map(describe).join(', ')})`;
      try {
        const result = await work(...args);
        if (result instanceof Tensor && result.device === device && result !== own[16]) result.dispose();
        // A tensor of another device is read back from there.
        const given = args.slice(0, Math.max(1, work.length));
        if (!/^(?:down|up)load/.test(name) && given.some(value => never.has(value)))
          faults.set(name, `${shown} returned`);
      } catch (error) {
        if (!(error instanceof RmError)) faults.set(name, `${shown}: ${(error as Error).stack}`);
      }
      const dead = round < 4 || calls % 20 === 0 ? await worksStill() : undefined;
      if (dead === undefined) continue;
      faults.set(name, `${shown}: the device ${dead}`);
      break outer;
    }
  }
  check.dispose();
  console.log(`${functions.length} functions, ${calls} calls, ${faults.size} faults, seed ${seed}`);
  for (const fault of faults.values()) console.log(fault);
  assert.is(faults.size, 0);
});

function describe(value: unknown): string {
  if (value instanceof Tensor) return `'${value.label}'`;
  if (typeof value === 'object' && value !== null) {
    const words = Object.entries(value)
      .slice(0, 3)
      .map(([name, each]) => `${name}: ${each instanceof Tensor ? each.label : typeof each}`);
    return `${value.constructor.name} { ${words.join(', ')} }`;
  }
  return typeof value === 'string' ? `'${value}'` : String(value);
}

test.run();
