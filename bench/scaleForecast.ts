import { formatBytes, formatSeconds } from '../engine/index.js';
import { type BenchTable, left, right } from './measure.js';

/** The dimensions of a model that decide time and memory. */
interface Dimensions {
  readonly name: string;
  readonly layers: number;
  readonly hidden: number;
  readonly intermediate: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocab: number;
}

const models: readonly Dimensions[] = [
  {
    ...{ name: 'Llama-3-8B', layers: 32, hidden: 4096, intermediate: 14336 },
    ...{ heads: 32, kvHeads: 8, headDim: 128, vocab: 128256 },
  },
  {
    ...{ name: 'Llama-3-70B', layers: 80, hidden: 8192, intermediate: 28672 },
    ...{ heads: 64, kvHeads: 8, headDim: 128, vocab: 128256 },
  },
];

/** Assumptions about one H100 (SXM, 80 GB) and its host; none was measured here. */
export const h100 = {
  /** f32 multiply-adds in WGSL, weights widened from bf16: 72 % of the 66.9e12 of the data sheet, what tuned tiles reach. */
  flops: 48e12,
  /** Share of that rate that a whole layer reaches: norms, attention and dispatches take the rest. */
  efficiency: 0.8,
  /** Bytes a second from host memory to the device through WebGPU's staging. */
  upload: 5e9,
  /** Bytes a second from the disk. */
  disk: 3e9,
  memory: 80e9,
} as const;

/** 1024 sequences of 1024. */
const TOKENS = 2 ** 20;
const SEQUENCE = 1024;
/** Refinements of a solve, each two triangular solves in f32 and a residual in 48 bits (about 10 times an f32 product). */
const REFINEMENTS = 3;
const BATCH = 8192;

/** Work, time and memory of one prune by least squares: all tokens pass all layers once. */
export interface Forecast {
  readonly model: string;
  readonly tokens: number;
  readonly weightBytes: number;
  readonly forwardFlops: number;
  readonly sumsFlops: number;
  readonly solveFlops: number;
  readonly forwardSeconds: number;
  readonly sumsSeconds: number;
  readonly solveSeconds: number;
  /** Loading every weight once, at the slower rate of disk and upload; offloaded layers hide it. */
  readonly loadSeconds: number;
  /** Hidden states of all tokens at one depth, f32. */
  readonly statesBytes: number;
  /** Device memory with all weights resident: weights, two sets of states, G and C in 48 bits, a batch's activations. */
  readonly residentBytes: number;
  /** The same with offloaded layers: two on the device at a time. */
  readonly streamedBytes: number;
}

function forecast({
  name,
  layers,
  hidden,
  intermediate,
  heads,
  kvHeads,
  headDim,
  vocab,
}: Dimensions): Forecast {
  const attention = hidden * headDim * (2 * heads + 2 * kvHeads);
  const layerWeights = attention + 3 * hidden * intermediate;
  // bf16; embedding and output head.
  const [layerBytes, outerBytes] = [2 * layerWeights, 2 * 2 * vocab * hidden];
  const scores = 2 * 2 * (SEQUENCE / 2) * heads * headDim;
  const forwardFlops = TOKENS * layers * (2 * layerWeights + scores);
  // The lower half of G, and C.
  const sumsFlops = TOKENS * (hidden ** 2 + 2 * hidden ** 2);
  const solveFlops = hidden ** 3 / 3 + 2 * hidden ** 3 + REFINEMENTS * (2 + 2 * 10) * hidden ** 3;
  const statesBytes = TOKENS * hidden * 4;
  const working = 2 * statesBytes + 2 * 8 * hidden ** 2 + BATCH * 4 * (4 * hidden + 3 * intermediate);
  const weightBytes = layers * layerBytes + outerBytes;
  const rate = h100.flops * h100.efficiency;
  return {
    ...{ model: name, tokens: TOKENS, weightBytes, forwardFlops, sumsFlops, solveFlops, statesBytes },
    ...{
      forwardSeconds: forwardFlops / rate,
      sumsSeconds: sumsFlops / rate,
      solveSeconds: solveFlops / rate,
    },
    loadSeconds: weightBytes / Math.min(h100.disk, h100.upload),
    residentBytes: weightBytes + working,
    streamedBytes: 2 * layerBytes + outerBytes + working,
  };
}

/** Llama-3-8B and 70B on one H100, by arithmetic. */
export const forecasts = (): Forecast[] => models.map(forecast);

export function forecastTable(all: readonly Forecast[]): BenchTable {
  const row = (title: string, cell: (of: Forecast) => string) => [title, ...all.map(cell)];
  const peta = (flops: number) => `${(flops / 1e15).toPrecision(3)} PF`;
  return {
    columns: [left(`one H100, ${TOKENS} tokens (arithmetic)`), ...all.map(({ model }) => right(model))],
    rows: [
      row('weights, bf16', ({ weightBytes }) => formatBytes(weightBytes)),
      row(
        'forward',
        ({ forwardFlops, forwardSeconds }) => `${peta(forwardFlops)}, ${formatSeconds(forwardSeconds)}`,
      ),
      row('G and C', ({ sumsFlops, sumsSeconds }) => `${peta(sumsFlops)}, ${formatSeconds(sumsSeconds)}`),
      row('solve', ({ solveFlops, solveSeconds }) => `${peta(solveFlops)}, ${formatSeconds(solveSeconds)}`),
      row('reading the weights once', ({ loadSeconds }) => formatSeconds(loadSeconds)),
      row('hidden states at one depth', ({ statesBytes }) => formatBytes(statesBytes)),
      row('device memory, weights resident', ({ residentBytes }) => formatBytes(residentBytes)),
      row('device memory, layers offloaded', ({ streamedBytes }) => formatBytes(streamedBytes)),
    ],
  };
}
