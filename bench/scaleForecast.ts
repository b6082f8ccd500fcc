import { formatBytes, formatSeconds } from '../engine/index.js';
import { architectureFromConfig } from '../model/index.js';
import {
  cards,
  exactSums,
  exactSumsSeconds,
  layerFlops,
  layerSeconds,
  PRECISE,
  REFINEMENTS,
  solveSeconds,
} from '../replaceme/index.js';
import { type BenchTable, left, right } from './measure.js';
import { modelConfigs } from './modelConfigs.js';
import { bf16Bytes } from './predict.js';

const MODELS = ['Llama-3-8B', 'Llama-3-70B'];
const card = cards.h100;
/** Bytes a second from the disk of a host of such a card. */
const DISK = 3e9;
/** 1024 sequences of 1024. */
const TOKENS = 2 ** 20;
const SEQUENCE = 1024;
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

function forecast(model: string): Forecast {
  const arch = architectureFromConfig({ ...modelConfigs[model] }, 'config.json');
  const { layers, hidden, intermediate } = arch;
  const { all: weightBytes, outer: outerBytes } = bf16Bytes(arch);
  const forwardFlops = TOKENS * layers * layerFlops(arch, SEQUENCE).all;
  // What sums in 48 bits take in f32.
  const sumsFlops = TOKENS * exactSums(hidden, hidden);
  const solveFlops = REFINEMENTS * PRECISE * hidden ** 3;
  const statesBytes = TOKENS * hidden * 4;
  const working = 2 * statesBytes + 2 * 8 * hidden ** 2 + BATCH * 4 * (4 * hidden + 3 * intermediate);
  const batch = layers * layerSeconds(card, arch, { rows: BATCH, keys: SEQUENCE });
  return {
    ...{ model, tokens: TOKENS, weightBytes, forwardFlops, sumsFlops, solveFlops, statesBytes },
    forwardSeconds: (TOKENS / BATCH) * batch,
    sumsSeconds: exactSumsSeconds(card, { flops: sumsFlops, bytes: 2 * statesBytes }),
    solveSeconds: solveSeconds(card, { flops: solveFlops, bytes: 0 }),
    loadSeconds: weightBytes / Math.min(DISK, 1e9 * card.uploadGigabytes),
    residentBytes: weightBytes + working,
    streamedBytes: outerBytes + (2 * (weightBytes - outerBytes)) / layers + working,
  };
}

/** Llama-3-8B and 70B on one H100, by the model of speed that `bench predict` prints. */
export const forecasts = (): Forecast[] => MODELS.map(forecast);

export function forecastTable(all: readonly Forecast[]): BenchTable {
  const row = (title: string, cell: (of: Forecast) => string) => [title, ...all.map(cell)];
  const work = (flops: number, seconds: number) =>
    `${(flops / 1e15).toPrecision(3)} PF, ${formatSeconds(seconds)}`;
  return {
    columns: [left(`one H100, ${TOKENS} tokens (arithmetic)`), ...all.map(({ model }) => right(model))],
    rows: [
      row('weights, bf16', ({ weightBytes }) => formatBytes(weightBytes)),
      row('forward', ({ forwardFlops, forwardSeconds }) => work(forwardFlops, forwardSeconds)),
      row('G and C, in 48 bits', ({ sumsFlops, sumsSeconds }) => work(sumsFlops, sumsSeconds)),
      row('solve', ({ solveFlops, solveSeconds: seconds }) => work(solveFlops, seconds)),
      row('reading the weights once', ({ loadSeconds }) => formatSeconds(loadSeconds)),
      row('hidden states at one depth', ({ statesBytes }) => formatBytes(statesBytes)),
      row('device memory, weights resident', ({ residentBytes }) => formatBytes(residentBytes)),
      row('device memory, layers offloaded', ({ streamedBytes }) => formatBytes(streamedBytes)),
    ],
  };
}
