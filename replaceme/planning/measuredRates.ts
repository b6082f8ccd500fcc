import { type Device, Scope } from '../../engine/index.js';
import { type Architecture, Batch, forward, Model, openHeaders } from '../../model/index.js';
import { SAMPLES } from '../evaluation/samples.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { layerFlopsPerToken } from '../run/computeRate.js';
import type { PlacedRun } from './repairFlops.js';
import { assumedUpload, DISK_GIGABYTES, type PlannedRates } from './timePlan.js';

/** On a software adapter more rows would take long, and be no faster. */
const SOFTWARE_ROWS = 256;
/** Runs after one that warms up; fewer where they take long. */
const RUNS = 5;
const PATIENCE_MS = 400;

/**
 * Operations of a layer a second: the median of some runs.
 *
 * @param lengths of the sequences that it runs over at a time.
 * @param between runs of the layer between two waits for the device.
 */
async function layerRate(model: Model, whole: Architecture, lengths: number[], between = 1): Promise<number> {
  const { device } = model;
  using scope = new Scope(device);
  using batch = new Batch(
    device,
    lengths.map(length => Array<number>(length).fill(0)),
  );
  const input = scope.tensor([batch.tokens, whole.hidden]);
  device.recorder.clear(input);
  const times: number[] = [];
  const started = performance.now();
  for (let run = 0; run <= RUNS && (run < 2 || performance.now() - started < PATIENCE_MS); run++) {
    const begun = performance.now();
    for (let i = 0; i < between; i++) forward(model, batch, { from: 0, to: 1, input }).dispose();
    await device.recorder.finish();
    // The first one compiles.
    if (run > 0) times.push((performance.now() - begun) / 1000);
  }
  const median = times.sort((a, b) => a - b)[times.length >> 1]!;
  const flops = lengths.reduce((sum, length) => sum + length * layerFlopsPerToken(whole, length), 0);
  return (between * flops) / median;
}

/** Whether the report of a run may have samples, which a model writes token by token. */
const mayWrite = ({ request, report, evaluationTokens, placement }: PlacedRun): boolean =>
  evaluationTokens > 0 && report !== 'light' && placement.weights === 'device' && !request.arch.vision;

/**
 * Measures what the device does a second: a layer of the model, with zeros for weights, runs as it will run. Reads headers
 * alone.
 */
export async function measuredRates(
  from: string,
  run: PlacedRun,
  device: Device,
  { dtype, uploadGigabytes }: Pick<PruneOptions, 'dtype'> & { readonly uploadGigabytes?: number | undefined },
): Promise<PlannedRates> {
  const { arch } = run.request;
  const checkpoint = await openHeaders(from, arch, dtype);
  try {
    using model = await Model.zeroLayer(device, arch, checkpoint);
    const rows = device.info.kind === 'software' ? Math.min(SOFTWARE_ROWS, run.batchTokens) : run.batchTokens;
    const length = Math.min(rows, run.sequenceLength);
    const many = Array<number>(Math.max(1, Math.floor(rows / length))).fill(length);
    const one = Array<number>(SAMPLES.prompts).fill(1);
    return {
      layerGflops: (await layerRate(model, arch, many)) / 1e9,
      layerMeasured: true,
      // A token goes through all layers between two waits.
      ...(mayWrite(run) && { singleGflops: (await layerRate(model, arch, one, arch.layers)) / 1e9 }),
      uploadGigabytes: uploadGigabytes ?? assumedUpload(device),
      uploadMeasured: uploadGigabytes !== undefined,
      diskGigabytes: DISK_GIGABYTES,
    };
  } finally {
    await checkpoint.close();
  }
}
