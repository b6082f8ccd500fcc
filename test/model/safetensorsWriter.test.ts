import { existsSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { DType } from '../../engine/dtype.js';
import { RmError } from '../../engine/errors.js';
import { openSafetensors } from '../../model/checkpoint/safetensors.js';
import {
  type TensorSource,
  writeSafetensors,
  writeSafetensorsFile,
} from '../../model/checkpoint/safetensorsWriter.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped, temporaryFolder } from '../support.js';

function source(name: string, dtype: DType, shape: number[], fill: number): TensorSource {
  const size = shape.reduce((product, n) => product * n, dtype === 'f32' ? 4 : 2);
  return { name, dtype, shape, bytes: async () => new Uint8Array(size).fill(fill) };
}

const tensors = [
  source('odd', 'f16', [3], 1),
  source('wide', 'f32', [2, 2], 2),
  source('name "quoted" é', 'bf16', [5], 3),
  source('scalar', 'f32', [], 4),
  source('none', 'f32', [0], 5),
];

async function assertHolds(path: string, expected: readonly TensorSource[]): Promise<void> {
  const checkpoint = await openSafetensors(path);
  assert.equal([...checkpoint.names].sort(), expected.map(tensor => tensor.name).sort());
  for (const { name, dtype, shape, bytes } of expected) {
    const { dtype: foundDtype, shape: foundShape } = checkpoint.info(name);
    assert.equal([foundDtype, foundShape], [dtype, shape]);
    assert.equal(await checkpoint.read(name), await bytes());
  }
  await checkpoint.close();
}

test('one file: what was written is read, aligned and with the header transformers wants', async () => {
  using folder = temporaryFolder();
  assert.equal(await writeSafetensors(folder.path, tensors), ['model.safetensors']);
  await assertHolds(folder.path, tensors);
  const file = readFileSync(join(folder.path, 'model.safetensors'));
  const length = Number(file.readBigUInt64LE());
  assert.is(length % 8, 0);
  const header = JSON.parse(file.toString('utf8', 8, 8 + length));
  assert.equal(header.__metadata__, { format: 'pt' });
  for (const { name, dtype } of tensors) {
    assert.is(header[name].data_offsets[0] % (dtype === 'f32' ? 4 : 2), 0, `${name} is aligned`);
  }
});

test('shards and their index', async () => {
  using folder = temporaryFolder();
  const list = ['a', 'b', 'big', 'c', 'd'].map((name, i) =>
    source(name, 'f32', [name === 'big' ? 50 : 5], i),
  );
  const seen: number[] = [];
  async function* lazily() {
    yield* list;
  }
  const files = await writeSafetensors(folder.path, lazily(), {
    maxShardBytes: 40,
    onProgress: (done, total) => seen.push(done / total),
  });
  assert.equal(files, [
    'model-00001-of-00003.safetensors',
    'model-00002-of-00003.safetensors',
    'model-00003-of-00003.safetensors',
    'model.safetensors.index.json',
  ]);
  assert.equal(readdirSync(folder.path).sort(), files);
  const index = JSON.parse(readFileSync(join(folder.path, 'model.safetensors.index.json'), 'utf8'));
  assert.equal(index.metadata, { total_size: 280 });
  assert.is(index.weight_map.big, files[1]);
  assert.is(index.weight_map.d, files[2]);
  assert.is(seen.at(-1), 1);
  await assertHolds(folder.path, list);
});

test('one tensor is in memory at a time', async () => {
  using folder = temporaryFolder();
  const order: string[] = [];
  let open = 0;
  const list = ['a', 'b', 'c'].map(name => ({
    ...source(name, 'f32', [4], 1),
    bytes: async () => {
      open++;
      assert.is(open, order.length + 1);
      return new Uint8Array(16);
    },
  }));
  await writeSafetensorsFile(join(folder.path, 'x.safetensors'), list, tensor => order.push(tensor.name));
  assert.equal(order, ['a', 'b', 'c']);
});

test('wrong sources', async () => {
  using folder = temporaryFolder();
  const short = { ...source('a', 'f32', [4], 1), bytes: () => new Uint8Array(12) };
  assert.match(
    await rejectsWith(() => writeSafetensors(folder.path, [short]), 'INVALID_ARGUMENT'),
    /12 bytes/,
  );
  const twice = [source('a', 'f32', [1], 1), source('a', 'f16', [1], 1)];
  assert.match(
    await rejectsWith(() => writeSafetensors(folder.path, twice), 'INVALID_ARGUMENT'),
    /two tensors/,
  );
  const failing = {
    ...source('a', 'f32', [1], 1),
    bytes: async () => Promise.reject(new RmError('DEVICE_LOST', 'gone', 'Start again.')),
  };
  await rejectsWith(() => writeSafetensors(folder.path, [failing]), 'DEVICE_LOST');
});

test('a disk that is full, a folder that is not there', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'missing', 'x.safetensors');
  await rejectsWith(() => writeSafetensorsFile(path, tensors), 'OUTPUT_FAILED');
  // Every write to this Linux device fails as on a full disk.
  if (!existsSync('/dev/full') || !statSync('/dev/full').isCharacterDevice()) {
    saySkipped('writing to a full disk: no /dev/full');
    return;
  }
  symlinkSync('/dev/full', join(folder.path, 'model.safetensors'));
  const message = await rejectsWith(() => writeSafetensors(folder.path, tensors), 'OUTPUT_FAILED');
  assert.match(message, /the disk is full/);
});

test.run();
