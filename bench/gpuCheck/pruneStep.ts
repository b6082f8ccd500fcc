import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { RmError, sha256, sha256OfFile } from '../../engine/index.js';
import { evaluate, loadTokenizer, Model, shippedPath } from '../../model/index.js';
import { type PruneReport, planPrune } from '../../replaceme/index.js';
import { digits, left, right } from '../measure.js';
import { DEMO_SEQUENCE, DEMO_TOKENS, demoOptions, demoResult, KL_TOLERANCE } from './demoResult.js';
import { predictedSpeed } from './predictions.js';
import { killedPrune, pruneCommand } from './pruneCommand.js';
import type { StepRun } from './stepRun.js';
import { syntheticFolder, syntheticModel } from './syntheticModel.js';

/** Shares of the memory that a run needs at the most, to find the limits at which it must do with less. */
const SHARES = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2];

/** Prunes the demo model, and compares choice and damage with what another device gave. */
async function pruneDemo(run: StepRun, rows: string[][]): Promise<void> {
  const demo = shippedPath('demo-model');
  const out = join(run.input.folder, 'demo');
  const report = await pruneCommand(run, 'prune the demo model', [demo, out, ...demoOptions, '--force']);
  if (!report) return;
  await run.piece('compare the demo model', async device => {
    using original = await Model.load(device, demo);
    using pruned = await Model.load(device, out);
    const tokenizer = await loadTokenizer(demo);
    const ids = await tokenizer.encode(
      readFileSync(shippedPath('demo-heldout.txt'), 'utf8').slice(0, 8 * DEMO_TOKENS),
    );
    const sequences = Array.from({ length: DEMO_TOKENS / DEMO_SEQUENCE }, (_, i) => [
      ...ids.slice(i * DEMO_SEQUENCE, (i + 1) * DEMO_SEQUENCE),
    ]);
    const { kl = Number.NaN, perplexity } = await evaluate(pruned, sequences, { against: original });
    const [window] = report.selection.windows;
    run.detail('demo', { windows: report.selection.windows, kl, perplexity });
    if (JSON.stringify(window) !== JSON.stringify(demoResult.window))
      run.wrong(
        `the demo model: the window chosen is ${JSON.stringify(window)}, elsewhere it is ${JSON.stringify(demoResult.window)}`,
      );
    if (!(Math.abs(kl - demoResult.kl) <= KL_TOLERANCE))
      run.wrong(
        `the demo model: KL divergence ${kl}, elsewhere ${demoResult.kl}, accepted are ${KL_TOLERANCE} between`,
      );
    run.metric('demo model, prune', report.seconds, 's');
    rows.push([
      'demo model',
      digits(report.seconds),
      `${report.summary}; KL ${kl.toFixed(4)}, elsewhere ${demoResult.kl.toFixed(4)}`,
    ]);
  });
}

/** SHA-256 over the weights of a model folder. */
async function weightsHash(folder: string): Promise<string> {
  const names = readdirSync(folder)
    .filter(name => name.endsWith('.safetensors'))
    .sort();
  const hashes: string[] = [];
  for (const name of names) hashes.push(await sha256OfFile(join(folder, name)));
  return sha256(hashes.join());
}

interface Limit {
  readonly name: 'limited' | 'streamed';
  readonly bytes: number;
}

/** Memory limits at which the run keeps less on the device, and at which it streams the layers. */
async function limitsOf(
  run: StepRun,
  model: string,
  resident: PruneReport,
  options: { layers: number; window: number; tokens: number },
): Promise<Limit[]> {
  const limits: Limit[] = [];
  const before = JSON.stringify(resident.plan!.placement);
  for (const share of SHARES) {
    const bytes = Math.floor(share * resident.plan!.memory.total);
    try {
      const { placement } = await planPrune(model, {
        ...{ ...options, ...madeUpOptions(run), memoryLimit: bytes },
      });
      const name = placement.weights === 'device' ? 'limited' : 'streamed';
      if (JSON.stringify(placement) !== before && !limits.some(limit => limit.name === name))
        limits.push({ name, bytes });
    } catch (error) {
      if (!(error instanceof RmError && error.code === 'OUT_OF_MEMORY')) throw error;
      break;
    }
    if (limits.some(({ name }) => name === 'streamed')) break;
  }
  return limits;
}

const SEQUENCE = 256;
const BATCH = 512;

const madeUpOptions = (run: StepRun) => ({
  ...{ method: 'refit-heal', batchTokens: BATCH, sequenceLength: SEQUENCE, report: 'none' as const },
  ...(run.input.adapter !== undefined && { adapter: run.input.adapter }),
});

/** Seconds that the model of speed expects of a run with all weights on the device. */
async function predictedPrune(
  run: StepRun,
  model: string,
  options: { layers: number; window: number; tokens: number },
): Promise<number | undefined> {
  const device = await run.open();
  const speed = predictedSpeed(run, device);
  await device.close();
  if (!speed) return undefined;
  const { phases } = await planPrune(model, { ...options, ...madeUpOptions(run), speed });
  return phases.reduce((sum, { seconds }) => sum + seconds, 0);
}

/** Prunes the made-up model in every placement, and once with a kill and --resume: the weights must be the same. */
async function prunePlacements(run: StepRun, software: boolean, rows: string[][]): Promise<void> {
  const model = await syntheticFolder(run, software);
  if (model === undefined) return;
  const { layers } = syntheticModel(software);
  const options = {
    layers: layers / 2 - 1,
    window: Math.floor(layers / 3),
    tokens: software ? 1024 : 16_384,
  };
  const args = [
    ...['--layers', `${options.layers}`, '--window', `${options.window}`, '--method', 'refit-heal'],
    ...['--tokens', `${options.tokens}`, '--sequence-length', `${SEQUENCE}`, '--batch-tokens', `${BATCH}`],
    ...['--calib', shippedPath('demo-calibration.txt'), '--report', 'none', '--force'],
  ];
  const outOf = (name: string) => join(run.input.folder, name);
  let expected: string | undefined;
  const runAs = async (name: string, more: readonly string[]): Promise<PruneReport | undefined> => {
    const out = outOf(name);
    const report = await pruneCommand(run, `made-up model, ${name}`, [model, out, ...args, ...more]);
    if (!report) return undefined;
    const hash = await weightsHash(out);
    rmSync(out, { recursive: true, force: true });
    expected ??= hash;
    if (hash !== expected)
      run.wrong(`made-up model, ${name}: the weights differ from those of the resident run`);
    const { weights, states } = report.plan!.placement;
    const predicted = name === 'resident' ? await predictedPrune(run, model, options) : undefined;
    run.metric(`made-up model, ${name}`, report.seconds, 's', { predicted });
    run.detail(name, {
      seconds: report.seconds,
      phases: report.phases,
      placement: report.plan!.placement,
      hash,
      peakMemoryBytes: report.peakMemoryBytes,
    });
    rows.push([
      `made-up model, ${name}`,
      digits(report.seconds),
      `weights ${weights}, states ${states.place}${states.keepsInner ? ', those between too' : ''}; ${hash === expected ? 'same' : 'OTHER'} weights`,
    ]);
    return report;
  };
  const resident = await runAs('resident', []);
  if (!resident) return;
  // Starting and checking the result take time too.
  const room = () => run.left > 1.2 * resident.seconds;
  const limits = await limitsOf(run, model, resident, options);
  for (const { name, bytes } of limits) {
    if (room()) await runAs(name, ['--memory-limit', `${bytes}`]);
    else run.note(`no time for the made-up model, ${name}`);
  }
  if (!limits.some(({ name }) => name === 'streamed'))
    run.note('no limit was found at which the made-up model is streamed');
  if (!room()) return run.note('no time for a kill and --resume');
  run.at('made-up model, killed');
  const killed = await killedPrune(
    run,
    outOf('resumed'),
    [model, outOf('resumed'), ...args],
    300 * resident.seconds,
  );
  if (!killed) return run.note('the run that should have been killed ended before');
  await runAs('resumed', ['--resume']);
}

/** The whole product: the demo model against another device's result; a made-up model in every placement, and resumed. */
export async function pruneStep(run: StepRun): Promise<void> {
  const opened = await run.open();
  const software = opened.info.kind === 'software';
  await opened.close();
  const rows: string[][] = [];
  await pruneDemo(run, rows);
  if (run.left > 0) await prunePlacements(run, software, rows);
  else run.note('no time for the made-up model');
  run.table('Prunes', { columns: [left('run'), right('s'), left('result')], rows });
}
