import { seededRandom } from '../../engine/random.js';
import {
  type CompareReport,
  type EvalReport,
  type HealingRecord,
  type HealReport,
  type MappedWindow,
  type Measures,
  type PositionLoss,
  type PruneReport,
  REPORT_SCHEMA,
  type ReportHead,
  type RidgePath,
} from '../../replaceme/report/schema/schema.js';

/** What must never come out as HTML. */
export const hostile = `</title><script>window.harmed = 'yes'</script><img src="https://example.com/x" onerror='harm()'> & "quoted"`;

const LAYERS = 30;
const WINDOW = { layer: 11, count: 7 };

const head = (sentence: string): ReportHead => ({
  schema: REPORT_SCHEMA,
  sentence,
  repeat: {
    kind: 'command',
    text: `rm-engine prune ./SmolLM2-135M-Instruct ./pruned --layers 7 --calib 'chat.jsonl' # ${hostile}`,
  },
  version: 'rm-engine 0.1.0',
  node: 'v20.20.2',
  date: '2026-11-22T19:00:00.000Z',
  model: {
    path: `models/SmolLM2-135M ${hostile}`,
    fingerprint: '0123456789abcdef'.repeat(4),
    layers: LAYERS,
  },
  adapter: {
    description: `llvmpipe ${hostile}`,
    ...{ vendor: 'mesa', architecture: '', device: '', kind: 'software' as const },
    ...{ subgroupMinSize: 8, subgroupMaxSize: 8, subgroupMatrixConfigs: [] },
  },
  warnings: [`The calibration text is short. ${hostile}`],
  phases: (['load', 'calibrate', 'select', 'fit', 'heal', 'evaluate', 'write', 'verify'] as const).map(
    (name, p) => ({
      ...{ name, seconds: 3 + 17 * ((p * 5) % 7), peakBytes: 2 ** 28 * (1 + (p % 3)) },
    }),
  ),
  peakMemoryBytes: 3 * 2 ** 28,
  seconds: 460,
});

function mappedWindows(): MappedWindow[] {
  const windows: MappedWindow[] = [];
  for (let count = 1; count < LAYERS; count++) {
    for (let layer = 0; layer + count < LAYERS; layer++) {
      const cosine = 0.002 * count ** 1.6 * (1 + Math.abs(layer - WINDOW.layer) / 8);
      windows.push({ layer, count, cosine, residual: cosine * 0.6 + 0.01, unexplained: 0.4 + 0.01 * count });
    }
  }
  return windows;
}

const windowMap = { layers: LAYERS, tokens: 8192, windows: mappedWindows() };

const lossByPosition = (added: number): PositionLoss[] =>
  Array.from({ length: 10 }, (_, b) => ({
    from: b === 0 ? 0 : 2 ** (b - 1),
    to: b === 0 ? 0 : 2 ** b - 1,
    predictions: 2 ** b * 10,
    nll: 6 / (1 + b / 3) + 1.9 + added * (1 + b / 9),
  }));

const measures = (layers: number, kl: number, added: number): Measures => ({
  eval: ['wiki.txt', 'chat.jsonl'].map((file, f) => ({
    ...{
      file,
      ppl: 17 * (1 + f / 4) * Math.exp(added),
      kl: kl * (1 + f / 5),
      top1: Math.max(0.2, 1 - kl / 2),
    },
  })),
  parameters: 28_311_552 + layers * 3_540_096,
  bytes: 2 * (28_311_552 + layers * 3_540_096),
  tokensPerSecond: 36_000 / layers,
  lossByPosition: lossByPosition(added),
});

/** Error that grows from the first change on. */
const damage = (scale: number) => [
  ...Array.from({ length: WINDOW.layer }, (_, layer) => ({ layer, ordinary: 0, sinks: 0 })),
  ...Array.from({ length: LAYERS - 18 }, (_, l) => ({
    ...{ layer: 18 + l, ordinary: scale * 0.1 * (1 + l / 4), sinks: scale * 0.004 },
  })),
];

const ridges = [1, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001];
const ridgePath = (layer: number, projection: 'o' | 'down', purpose: 'fit' | 'healing'): RidgePath => {
  const best = 3 + (layer % 3);
  return {
    ...{ layer, projection, purpose },
    points: ridges.map((ridge, r) => ({
      ridge,
      heldOut: (projection === 'o' ? 0.6 : 0.5) + layer / 100 + 0.04 * (r - best) ** 2,
    })),
    chosen: ridges[best]!,
  };
};
const ridgePaths = [
  ...(['o', 'down'] as const).map(projection => ridgePath(WINDOW.layer, projection, 'fit')),
  ...Array.from({ length: LAYERS - 19 }, (_, l) =>
    (['o', 'down'] as const).map(projection => ridgePath(19 + l, projection, 'healing')),
  ).flat(),
];

const continuation = (model: string, text: string) => ({ model, text, tokens: 24, repetition: 0.125 });
const samples = (names: readonly string[]) => [
  {
    prompt: `What is a prime number? ${hostile}`,
    chat: true,
    continuations: names.map((name, n) =>
      continuation(name, `A prime number has no divisors but 1 and itself.\n${n === 0 ? 'So' : hostile}`),
    ),
  },
  {
    prompt: 'The river',
    chat: false,
    continuations: names.map(name =>
      continuation(name, 'rises in the hills and flows to the sea, as rivers do.'),
    ),
  },
];

const calibration = {
  ...{ tokens: 24_576, sequences: 96 },
  files: [{ path: 'chat.jsonl', sha256: 'ab'.repeat(32), weight: 1, tokens: 24_576 }],
};
const sizes = { tokens: 24_576, sequenceLength: 1024, batchTokens: 2048 };

const healingSettings = {
  ...{ train: 'transform' as const, objective: 'kl' as const, topK: 100, steps: 300, learningRate: 3e-4 },
  ...{ warmup: 15, batchTokens: 1024, microBatchTokens: 1024, weightDecay: 0, clip: 1, seed: 0 },
  ...{ evaluateEvery: 30, checkpointEvery: 50 },
};

/** A run that was stopped once and skipped a step. */
const healing: HealingRecord = {
  ...{ settings: healingSettings, layers: [WINDOW.layer], parameters: 331_776, tokens: 300_000 },
  ...{ heldOutTokens: 2048, resumedAt: 150, skipped: 1 },
  steps: Array.from({ length: 300 }, (_, i) => ({
    step: i + 1,
    loss: i === 40 ? null : 0.3 + 0.4 * Math.exp(-i / 60) + 0.05 * Math.sin(i),
    learningRate: 3e-4 * (1 - i / 300),
    gradientNorm: i === 40 ? null : 0.2 + 0.1 * Math.cos(i),
  })),
  heldOut: Array.from({ length: 11 }, (_, i) => ({
    ...{ step: 30 * i, nll: 2.9 + 0.3 * Math.exp(-i / 3), kl: 0.3 + 0.4 * Math.exp(-i / 3) },
  })),
};

/** A report of `prune` with everything that there can be, on a model of SmolLM2's size. */
export const pruneFixture: PruneReport = {
  ...head('Removed 7 of 30 layers and fitted what stays by refit-heal on 24,576 tokens.'),
  kind: 'prune',
  summary: 'keep 11, remove 12..18 (7 of 30 layers)',
  method: 'refit-heal',
  source: 'this project',
  output: {
    path: 'pruned',
    layers: 23,
    keptLayers: Array.from({ length: LAYERS }, (_, layer) => layer).filter(layer => layer < 12 || layer > 18),
  },
  selection: {
    windows: [WINDOW],
    by: 'measured KL',
    candidates: [0, 2, 4].map(shift => ({
      windows: [{ layer: WINDOW.layer + shift, count: 7 }],
      ...{ cosine: 0.05 + shift / 100, residual: 0.04, kl: 0.3 + shift / 10, nll: 2.9 },
      ...{ tokens: shift === 0 ? 1024 : 256, healed: shift === 0 },
    })),
  },
  windowMap,
  recipe: { alpha: 0, heal: true, ...sizes },
  healing,
  calibration,
  fit: { 'o_proj held-out': 0.8123, 'condition (estimate)': 1.2e7 },
  ridgePaths,
  plan: {
    memory: {
      ...{
        weights: 1,
        activations: 1,
        statistics: 1,
        layerInputs: 1,
        hiddenStates: 1,
        selectionSpare: 1,
        evaluationSpare: 1,
        healing: 1,
        total: 2 ** 29,
      },
      ...{ host: 0, staging: 1, disk: 0 },
    },
    placement: { weights: 'device', states: { place: 'device', dtype: 'f32', keepsInner: true } },
    phases: [
      { name: 'select', bytes: 0, flops: 1e12, seconds: 100 },
      { name: 'fit', bytes: 0, flops: 2.5e12, seconds: 250 },
    ],
  },
  verification: { tokens: 128, maxLogitDifference: 0 },
  extent: { extent: 'full', by: 'time', fullShare: 0.2, tokenShare: 1, leftOut: [] },
  evaluation: {
    texts: [
      { file: 'wiki.txt', sha256: 'cd'.repeat(32), tokens: 4096, sequences: 4, origin: 'given' },
      {
        file: 'chat.jsonl',
        sha256: 'ef'.repeat(32),
        tokens: 4096,
        sequences: 9,
        origin: 'held-out calibration',
      },
    ],
    models: [
      { role: 'dense', layers: 30, ...measures(30, 0, 0) },
      { role: 'plain', layers: 23, ...measures(23, 1.1, 0.9) },
      { role: 'result', layers: 23, ...measures(23, 0.31, 0.22) },
    ],
    damageByLayer: {
      ...{ tokens: 8192, sinks: 13 },
      series: [
        { stage: 'plain', layers: damage(4) },
        { stage: 'fit', layers: damage(2) },
        { stage: 'healed', layers: damage(1) },
      ],
    },
    samples: samples(['dense', 'plain', 'result']),
  },
};

/** A report of `heal` with everything that there can be. */
export const healFixture: HealReport = {
  ...head('Healed pruned by 300 steps towards SmolLM2.'),
  kind: 'heal',
  teacher: { path: `SmolLM2 ${hostile}`, fingerprint: '01'.repeat(32), layers: LAYERS },
  cut: { patched: [WINDOW.layer], keptLayers: pruneFixture.output.keptLayers },
  recipe: { ...healingSettings, tokens: 307_200, sequenceLength: 1024, heldOutTokens: 2048 },
  data: calibration,
  healing,
  result: {
    ...{ tokens: 2048, predictions: 2040, nll: 2.91, perplexity: Math.exp(2.91) },
    ...{ againstPerplexity: Math.exp(2.5), kl: 0.31, top1: 0.7 },
  },
  output: { path: `healed ${hostile}` },
  samples: samples(['dense', 'result']),
  verification: { tokens: 64, maxLogitDifference: 0 },
};

const methods = [
  'plain',
  'uidl',
  'shortgpt',
  'sleb',
  'laco',
  'linear-patch',
  'replaceme-ls',
  'refit',
  'refit-heal',
];
const random = seededRandom(3);

/** A report of `compare` with several texts, refusals and all that rows can carry. */
export const compareFixture: CompareReport = {
  ...head('Compared 9 methods on 24,576 tokens.'),
  kind: 'compare',
  recipe: sizes,
  calibration,
  evaluation: [
    { file: 'wiki.txt', sha256: 'cd'.repeat(32), tokens: 4096 },
    { file: hostile, sha256: 'ef'.repeat(32), tokens: 4096 },
  ],
  dense: measures(30, 0, 0),
  rows: [4, 7, 10].flatMap(layers =>
    methods.map((method, m) => {
      if (method === 'laco' && layers === 10) {
        return {
          method,
          layers,
          windows: [] as const,
          eval: [] as const,
          refused: `cannot merge ${hostile}`,
        };
      }
      const kl = (0.04 * layers * (1 + random())) / (m + 1);
      return {
        ...measures(LAYERS - layers, kl, kl / 2),
        ...{ method, layers, windows: [[WINDOW.layer, layers] as const], fitSeconds: 12 + m },
        selection: { name: 'measured', by: 'measured KL', seconds: 9 },
        ...{ details: {}, ridgePaths, damageByLayer: damage(4 - m / 3), warnings: [] },
      };
    }),
  ),
  windowMap: { ...windowMap, windows: windowMap.windows.filter(({ count }) => count <= 10) },
  samples: samples(['dense', 'plain, 7 removed', 'refit-heal, 7 removed']),
};

/** A report of `eval` with texts, tasks and samples. */
export const evalFixture: EvalReport = {
  ...head('Evaluated on one text and two tasks.'),
  kind: 'eval',
  against: { path: 'dense', fingerprint: 'ab'.repeat(32), layers: 30 },
  files: [
    {
      ...{ file: 'wiki.txt', tokens: 4096, predictions: 4092, nll: 2.9, perplexity: Math.exp(2.9) },
      ...{ againstPerplexity: 17, kl: 0.3, top1: 0.78 },
    },
  ],
  tasks: ['hellaswag', hostile].map((task, t) => ({
    ...{ task, rows: 20, fewShot: 0 },
    metrics: [
      { metric: 'acc', value: 0.45 + t / 10, standardError: 0.11 },
      { metric: 'acc_norm', value: 0.5, standardError: 0.11 },
      { metric: 'perplexity', value: 31.5 },
    ],
  })),
  samples: samples(['result']),
};
