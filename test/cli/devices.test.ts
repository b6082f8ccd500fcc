import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { devicesOf } from '../../cli/prune/devices.js';
import { Device } from '../../engine/index.js';
import { rejectsWith, relativeError } from '../gpu.js';
import { workplace } from '../replaceme/workplace.js';
import { readGolden, saySkipped } from '../support.js';
import { rmEngine } from './support.js';

const there =
  (...names: string[]) =>
  () =>
    Promise.resolve(names);
const llvmpipe = 'llvmpipe (LLVM 15.0.6, 256 bits)';

test('all: every GPU, software only where there is none', async () => {
  const cards = there('NVIDIA RTX 4090', 'Intel Arc A770', llvmpipe);
  assert.equal(await devicesOf('all', cards), ['NVIDIA RTX 4090', 'Intel Arc A770']);
  assert.equal(await devicesOf('all', there(llvmpipe)), [llvmpipe]);
  assert.equal(await devicesOf(' rtx, Arc', cards), ['rtx', 'Arc']);
});

test('two processes on one GPU are refused, on one software driver they are not', async () => {
  const alike = there('NVIDIA H100', 'NVIDIA H100');
  const message = await rejectsWith(() => devicesOf('all', alike), 'INVALID_ARGUMENT');
  assert.match(message, /same GPU 'NVIDIA H100'/);
  assert.equal(await devicesOf('H100', alike), ['H100']);
  await rejectsWith(() => devicesOf('RTX,4090', there('NVIDIA RTX 4090', 'Intel Arc')), 'INVALID_ARGUMENT');
  await rejectsWith(() => devicesOf(',', there()), 'INVALID_ARGUMENT');
  assert.equal(await devicesOf('llvmpipe,llvmpipe', there(llvmpipe)), ['llvmpipe', 'llvmpipe']);
});

const asked = (text: string) => [
  ...['--method', 'replaceme-ls', '--calib', text, '--tokens', '1024'],
  ...['--sequence-length', '64', '--batch-tokens', '64', '--report', 'none'],
];
/** The software driver that the tests run on: two processes may share it. */
const name = await (async () => {
  const device = await Device.open();
  const { kind, description } = device.info;
  await device.close();
  if (kind === 'software') return /swiftshader/i.test(description) ? 'swiftshader' : 'llvmpipe';
  return undefined;
})();
const twice = `${name},${name}`;
if (!name) saySkipped('prune --devices: two processes would share one GPU');
const onSoftware = name ? test : test.skip;

onSoftware('prune --devices: shards by processes, the model of a single run', async () => {
  using place = await workplace();
  const single = join(place.path, 'single');
  const how = [...asked(place.calibration), '--layers', '2', '--select', 'cosine'];
  const alone = await rmEngine(['prune', place.model, single, ...how, '--json']);
  assert.is(alone.status, 0, alone.stderr);
  const divided = await rmEngine(['prune', place.model, place.out, ...how, '--devices', twice, '--json']);
  assert.is(divided.status, 0, divided.stderr);
  const [one, two] = [alone, divided].map(({ stdout }) => JSON.parse(stdout));
  assert.equal(two.selection.windows, one.selection.windows);
  assert.match(two.repeat.text, /--devices/);
  const expected = await readGolden(join(single, 'model.safetensors'));
  for (const [tensor, { values }] of await readGolden(join(place.out, 'model.safetensors'))) {
    // Stored in bf16: a value on the edge may fall to the other side.
    assert.ok(relativeError(values, expected.get(tensor)!.values) <= 2e-4, tensor);
  }
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned', 'single']);
});

onSoftware('a process that fails ends the others, and its words are passed on', async () => {
  using place = await workplace();
  const how = [...asked(place.calibration), '--remove', '3,4', '--json'];
  const few = ['prune', place.model, place.out, ...how, '--tokens', '32', '--devices', `${twice},${name}`];
  const failed = await rmEngine(few);
  assert.is(failed.status, 2);
  const { error } = JSON.parse(failed.stdout);
  assert.is(error.code, 'INVALID_ARGUMENT');
  assert.match(error.message, /cannot be divided into \d shards/);
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

onSoftware('what no sum can serve is refused before a process begins', async () => {
  using place = await workplace();
  const how = ['prune', place.model, place.out, '--layers', '2', '--devices', twice];
  const refused = await rmEngine(how);
  assert.is(refused.status, 2);
  assert.match(refused.stderr, /measured runs changed models/);
  assert.is((await rmEngine([...how, '--statistics', 'file'])).status, 2);
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

test.run();
