/**
 * What docs/reproducible.md promises: the same command on the same adapter writes the same bytes, and another adapter
 * stays within a stated distance.
 */
import { createHash } from 'node:crypto';
import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { encodeFromF32 } from '../../engine/dtype.js';
import { listAdapters } from '../../engine/index.js';
import { findBundledDriver, hasVulkan } from '../../engine/softwareDriver.js';
import { writeSafetensors } from '../../model/index.js';
import { shippedPath } from '../../replaceme/index.js';
import { relativeError } from '../gpu.js';
import { readGolden, saySkipped, temporaryFolder } from '../support.js';
import { rmEngine } from './support.js';

/** Largest |A - B|_F / |B|_F of a matrix that two adapters fit for the same window. */
const DISTANCE = {
  /** Measured 1.2e-6: f32 sums in another order. */
  f32: 1e-5,
  /** Measured 5.1e-4 (2,048 tokens): some of these weights round to the other neighbour in bf16. */
  bf16: 2e-3,
};
const demo = shippedPath('demo-model');
const WINDOW = ['--window', '4', '--layers', '4'];

/** Prunes in a process of its own and returns the folder. */
async function prune(model: string, folder: string, options: readonly string[]): Promise<string> {
  const calibration = ['--calib', shippedPath('demo-calibration.txt'), '--tokens', '1024'];
  const sizes = ['--sequence-length', '256', '--report', 'none', '--quiet', '--json'];
  const { status, stderr } = await rmEngine(['prune', model, folder, ...calibration, ...sizes, ...options]);
  assert.is(status, 0, stderr);
  return folder;
}

/** SHA-256 of every file but those that say when and where the run was. */
function digests(folder: string): Record<string, string> {
  const names = readdirSync(folder).filter(
    name => !/^(README\.md|recipe\.yaml|rm-engine\.json|report\.(json|html))$/.test(name),
  );
  assert.ok(names.some(name => name.endsWith('.safetensors')));
  const digest = (name: string) =>
    createHash('sha256')
      .update(readFileSync(join(folder, name)))
      .digest('hex');
  return Object.fromEntries(names.sort().map(name => [name, digest(name)]));
}

const weightsOf = (folder: string) => readGolden(join(folder, 'model.safetensors'));

/** The largest relative distance of a tensor, and how many tensors differ at all. */
async function distance(a: string, b: string): Promise<{ worst: number; differing: number }> {
  const [of, to] = [await weightsOf(a), await weightsOf(b)];
  assert.equal([...of.keys()], [...to.keys()]);
  const errors = [...of].map(([name, { values }]) => relativeError(values, to.get(name)!.values));
  return { worst: Math.max(...errors), differing: errors.filter(error => error > 0).length };
}

/** The demo model with its weights widened to f32, so that storage rounds nothing. */
async function widened(folder: string): Promise<string> {
  mkdirSync(folder);
  for (const name of readdirSync(demo)) copyFileSync(join(demo, name), join(folder, name));
  const stored = await weightsOf(demo);
  const tensors = [...stored].map(([name, { shape, values }]) => ({
    name,
    shape,
    dtype: 'f32' as const,
    bytes: () => encodeFromF32(Float32Array.from(values), 'f32'),
  }));
  await writeSafetensors(folder, tensors);
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  for (const key of ['dtype', 'torch_dtype']) if (key in config) config[key] = 'float32';
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  return folder;
}

test('two processes that select by measuring and heal write the same bytes', async () => {
  using folder = temporaryFolder();
  const run = (name: string) =>
    prune(demo, join(folder.path, name), ['--layers', '3', '--method', 'refit-heal', '--tokens', '512']);
  const [first, second] = [await run('first'), await run('second')];
  assert.equal(digests(first), digests(second));
});
/** Both software drivers, by parts of their names; undefined where one is missing. */
async function softwareDrivers(): Promise<readonly [string, string] | undefined> {
  if (!hasVulkan() || !findBundledDriver()) return undefined;
  return (await listAdapters()).some(name => /llvmpipe/i.test(name))
    ? ['llvmpipe', 'swiftshader']
    : undefined;
}

const drivers = await softwareDrivers();
if (drivers) {
  test('two adapters, weights in bf16: each repeats its bytes, and they stay near each other', async () => {
    using folder = temporaryFolder();
    const run = (adapter: string, name: string) =>
      prune(demo, join(folder.path, name), [...WINDOW, '--method', 'refit-heal', '--adapter', adapter]);
    const [one, other] = [await run(drivers[0], 'one'), await run(drivers[1], 'other')];
    assert.equal(digests(other), digests(await run(drivers[1], 'again')));
    const { worst, differing } = await distance(one, other);
    console.log(`bf16: ${differing} tensors differ, by ${worst.toExponential(1)} at most`);
    assert.ok(worst <= DISTANCE.bf16, `${worst}`);
    assert.ok(differing > 0, 'these drivers round differently: was the adapter heeded?');
  });

  test('two adapters: weights in f32 show the arithmetic alone', async () => {
    using folder = temporaryFolder();
    const model = await widened(join(folder.path, 'f32'));
    const run = (adapter: string) =>
      prune(model, join(folder.path, adapter), [...WINDOW, '--method', 'refit', '--adapter', adapter]);
    const { worst, differing } = await distance(await run(drivers[0]), await run(drivers[1]));
    console.log(`f32: ${differing} tensors differ, by ${worst.toExponential(1)} at most`);
    assert.ok(worst <= DISTANCE.f32, `${worst}`);
  });
} else saySkipped('this machine has one software driver: the distance between two is not measured');
test.run();
