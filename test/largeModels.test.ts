import { createHash } from 'node:crypto';
import { createReadStream, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type SyntheticModel, writeSyntheticCheckpoint } from '../bench/syntheticCheckpoint.js';
import type { PruneOptions, PruneReport } from '../replaceme/index.js';
import { pruneInChild } from './pruneInChild.js';
import { calibrationText } from './replaceme/workplace.js';
import { temporaryFolder } from './support.js';

/** SHA-256 of every file of weights. */
async function hashes(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const name of readdirSync(folder)
    .filter(file => file.endsWith('.safetensors'))
    .sort()) {
    const hash = createHash('sha256');
    await pipeline(createReadStream(join(folder, name)), hash);
    found.push(hash.digest('hex'));
  }
  return found;
}

const sizes: PruneOptions = { layers: 2, report: 'none', tokens: 128, sequenceLength: 32, batchTokens: 64 };
const leastSquares: PruneOptions = { method: 'replaceme-ls', alpha: 10, select: 'cosine' };

/** Documents that are all alike: what is learnt of one half holds for the other, so that every layer is healed. */
const alike =
  `${JSON.stringify({ text: 'the quick brown fox jumps over the lazy dog. '.repeat(8) })}\n`.repeat(16);

/** A synthetic model on disk and calibration text beside it. */
async function large(model: SyntheticModel) {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const { bytes, files } = await writeSyntheticCheckpoint(at('model'), model);
  writeFileSync(at('calibration.txt'), calibrationText);
  writeFileSync(at('alike.jsonl'), alike);
  const run = (name: string, { calibration = ['calibration.txt'], ...options }: PruneOptions) =>
    pruneInChild(at('model'), at(name), { ...sizes, ...options, calibration: calibration.map(at) });
  return { ...folder, at, bytes, files, run };
}

if (process.env.RM_LARGE !== '1') {
  console.log('skip: RM_LARGE is not 1: no models of more than a gigabyte');
} else {
  test('1.5 GB in 4 shards under a limit of 600 MB: the bytes of the resident run, the peak as planned', async () => {
    const model = { layers: 8, hidden: 1024, intermediate: 28_672, heads: 8, kvHeads: 2, vocab: 32_000 };
    using place = await large({ ...model, shards: 4 });
    assert.ok(place.bytes > 1.5e9);
    assert.is(place.files.length, 4);
    const memoryLimit = 600e6;
    const { report, residentBytes } = place.run('streamed', { ...leastSquares, memoryLimit });
    const whole = place.run('whole', leastSquares);
    assert.not.equal(report.plan!.placement.weights, 'device');
    assert.is(whole.report.plan!.placement.weights, 'device');
    const share = report.peakMemoryBytes / report.plan!.memory.total;
    console.log(
      `peak ${report.peakMemoryBytes}, ${share.toFixed(3)} of the plan; resident set ${residentBytes}`,
    );
    assert.ok(report.peakMemoryBytes <= memoryLimit);
    assert.ok(Math.abs(share - 1) < 0.1, `${share} of the plan`);
    assert.equal(report.selection, whole.report.selection);
    assert.equal(await hashes(place.at('streamed')), await hashes(place.at('whole')));
  });

  /** Prunes two models of 6 and 14 layers in a process each: the second takes no more memory, but for two layers. */
  async function sameMemory(layer: Omit<SyntheticModel, 'layers'>, options: PruneOptions) {
    const resident: number[] = [];
    const sizes: number[] = [];
    const reports: PruneReport[] = [];
    for (const layers of [6, 14]) {
      using place = await large({ ...layer, layers, shards: 4 });
      const { report, residentBytes } = place.run('pruned', options);
      assert.is(report.plan!.placement.weights, 'streamed');
      reports.push(report);
      resident.push(residentBytes);
      sizes.push(place.bytes);
    }
    const perLayer = (sizes[1]! - sizes[0]!) / 8;
    console.log(`models of ${sizes} bytes, ${perLayer} a layer, resident sets of ${resident}`);
    assert.ok(resident[1]! - resident[0]! < 2 * perLayer, `${resident}`);
    return reports;
  }

  test('host memory does not grow with the number of layers', async () => {
    await sameMemory(
      { hidden: 1024, intermediate: 6144, heads: 8, kvHeads: 2 },
      { ...leastSquares, memoryLimit: 200e6 },
    );
  });

  test('nor with the number of layers that are healed', async () => {
    const reports = await sameMemory(
      { hidden: 1024, intermediate: 1024, heads: 8, kvHeads: 2 },
      { method: 'refit-heal', window: 1, memoryLimit: 80e6, calibration: ['alike.jsonl'] },
    );
    const healed = reports.map(({ fit }) => fit.healedProjections as number);
    assert.ok(healed[1]! - healed[0]! > 8, `${healed} projections are healed`);
  });
}

test.run();
