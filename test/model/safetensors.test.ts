import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { openSafetensors } from '../../model/checkpoint/safetensors.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

interface RawFile {
  /** Header text; its length field is written to match unless given. */
  header: string | Uint8Array;
  length?: bigint;
  data?: Uint8Array;
}

function rawFile({ header, length, data = new Uint8Array(0) }: RawFile): Buffer {
  const json = Buffer.from(header);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(length ?? BigInt(json.byteLength));
  return Buffer.concat([prefix, json, data]);
}

const f32 = (...values: number[]) => new Uint8Array(Float32Array.from(values).buffer);
const entry = (dtype: string, shape: unknown, begin: number, end: number) => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

/** What openSafetensors says about a folder whose model.safetensors is `file`. */
async function complaint(file: Uint8Array): Promise<string> {
  using folder = temporaryFolder();
  writeFileSync(join(folder.path, 'model.safetensors'), file);
  return await rejectsWith(() => openSafetensors(folder.path), 'CHECKPOINT_CORRUPT');
}

const complaintAbout = (header: unknown, data?: Uint8Array) =>
  complaint(rawFile({ header: JSON.stringify(header), ...(data && { data }) }));

test('reads whole tensors and ranges, in any order', async () => {
  using folder = temporaryFolder();
  const header = JSON.stringify({
    __metadata__: { format: 'pt' },
    b: entry('BF16', [2], 12, 16),
    a: entry('F32', [3, 1], 0, 12),
    scalar: entry('F32', [], 16, 20),
    empty: entry('F16', [0, 4], 20, 20),
  });
  const data = Buffer.concat([f32(1, 2, 3), Buffer.from([0x80, 0x3f, 0, 0x40]), f32(7)]);
  writeFileSync(join(folder.path, 'model.safetensors'), rawFile({ header, data }));
  const checkpoint = await openSafetensors(folder.path);
  assert.equal([...checkpoint.names].sort(), ['a', 'b', 'empty', 'scalar']);
  assert.is(checkpoint.totalBytes, 20);
  assert.equal(checkpoint.info('a'), { name: 'a', dtype: 'f32', shape: [3, 1], byteLength: 12 });
  assert.equal(checkpoint.info('b').dtype, 'bf16');
  assert.equal(await checkpoint.read('a'), f32(1, 2, 3));
  assert.equal(await checkpoint.readRange('a', 4, 4), f32(2));
  assert.equal(await checkpoint.read('scalar'), f32(7));
  assert.is((await checkpoint.read('empty')).byteLength, 0);
  assert.not.ok(checkpoint.has('c'));
  await rejectsWith(() => checkpoint.readRange('a', 8, 8), 'INVALID_ARGUMENT');
  await rejectsWith(() => checkpoint.readRange('a', -4, 8), 'INVALID_ARGUMENT');
  assert.match(await rejectsWith(() => checkpoint.read('c'), 'CHECKPOINT_CORRUPT'), '"c"');
  await checkpoint.close();
});

test('a type that kernels cannot read is refused when asked for', async () => {
  using folder = temporaryFolder();
  const header = JSON.stringify({ x: entry('F8_E4M3', [8], 0, 8), y: entry('F32', [1], 8, 12) });
  writeFileSync(join(folder.path, 'model.safetensors'), rawFile({ header, data: new Uint8Array(12) }));
  const checkpoint = await openSafetensors(folder.path);
  assert.is(checkpoint.info('y').dtype, 'f32');
  const message = await rejectsWith(() => checkpoint.info('x'), 'UNSUPPORTED_DTYPE');
  assert.match(message, /"x" is stored as F8_E4M3/);
  await checkpoint.close();
});

test('a file that was cut after it was opened', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'model.safetensors');
  const header = JSON.stringify({ x: entry('F32', [4], 0, 16) });
  writeFileSync(path, rawFile({ header, data: new Uint8Array(16) }));
  const checkpoint = await openSafetensors(path);
  truncateSync(path, 8 + header.length + 4);
  await rejectsWith(() => checkpoint.read('x'), 'CHECKPOINT_CORRUPT');
  await checkpoint.close();
});

test('the header length', async () => {
  assert.match(await complaint(new Uint8Array(0)), /0 bytes, too few/);
  assert.match(await complaint(new Uint8Array(5)), /5 bytes, too few/);
  assert.match(
    await complaint(rawFile({ header: '{}', length: 2n ** 63n })),
    /claims 9223372036854775808 bytes/,
  );
  assert.match(await complaint(rawFile({ header: '{}', length: 100_000_001n })), /more than the/);
  assert.match(
    await complaint(rawFile({ header: '{}', length: 300n })),
    /claims 300 bytes, but the file ends/,
  );
  assert.match(await complaint(Buffer.from('version https://git-lfs.github.com/spec/v1\n')), /Git LFS/);
});

test('what stands in the place of a weight file', async () => {
  const about = (content: string) => complaint(Buffer.from(content, 'latin1'));
  assert.match(await about('<!DOCTYPE html>\n<html><body>Sign in'), /is a web page/);
  assert.match(await about('PK\x03\x04\0\0\b\b\0\0archive/data.pkl'), /zip archive, perhaps PyTorch/);
  assert.match(await about('\x1f\x8b\b\0\0\0\0\0\0\x03 and more'), /is compressed/);
  assert.match(await about('GGUF\x03\0\0\0\0\0\0\0'), /is a GGUF file/);
  // The length of this header, 35,615 bytes, is spelt like the beginning of a gzip file.
  using folder = temporaryFolder();
  const header = JSON.stringify({ x: entry('F32', [1], 0, 4) }).padEnd(0x8b1f);
  const file = rawFile({ header, data: f32(1) });
  assert.equal([...file.subarray(0, 2)], [0x1f, 0x8b]);
  writeFileSync(join(folder.path, 'model.safetensors'), file);
  await (await openSafetensors(folder.path)).close();
});

test('the header text', async () => {
  assert.match(await complaint(rawFile({ header: '{"a": ' })), /not valid JSON/);
  assert.match(await complaint(rawFile({ header: Uint8Array.of(0x7b, 0xff, 0x7d) })), /not valid JSON/);
  assert.match(await complaintAbout([]), /not a JSON object/);
  assert.match(await complaintAbout({ a: 1 }), /"a": its header entry/);
  assert.match(await complaintAbout({ a: entry('F33', [1], 0, 4) }, f32(1)), /"a": unknown dtype "F33"/);
  assert.match(await complaintAbout({ a: entry('F32', [-1], 0, 4) }, f32(1)), /"a": shape/);
  assert.match(await complaintAbout({ a: entry('F32', [1.5], 0, 6) }, f32(1)), /"a": shape/);
  assert.match(await complaintAbout({ a: entry('F32', '1', 0, 4) }, f32(1)), /"a": shape/);
  const one = JSON.stringify(entry('F32', [1], 0, 4));
  const twice = rawFile({ header: `{"a":${one},"\\u0061":${one}}`, data: f32(1) });
  assert.match(await complaint(twice), /"a" twice/);
  const inner = `{"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}}`;
  assert.match(await complaint(rawFile({ header: inner, data: f32(1) })), /"shape" twice/);
});

test('the offsets', async () => {
  const two = f32(1, 2);
  assert.match(
    await complaintAbout({ a: entry('F32', [2], 0, 4) }, two),
    /"a": shape \[2\] of F32 needs 8 bytes/,
  );
  assert.match(
    await complaintAbout({ a: entry('F32', [1], 4, 0) }, two),
    /"a": data_offsets \[4, 0\] run backwards/,
  );
  assert.match(await complaintAbout({ a: entry('F32', [1], -4, 0) }, two), /"a": data_offsets/);
  assert.match(await complaintAbout({ a: entry('F32', [1], 0, 2 ** 60) }, two), /"a": data_offsets/);
  assert.match(
    await complaintAbout({ a: entry('F32', [2], 0, 8), b: entry('F32', [1], 4, 8) }, two),
    /"b": overlaps the tensor before it by 4 bytes/,
  );
  assert.match(
    await complaintAbout({ a: entry('F32', [1], 0, 4), b: entry('F32', [1], 0, 4) }, f32(1)),
    /"b": overlaps/,
  );
  assert.match(await complaintAbout({ a: entry('F32', [1], 4, 8) }, two), /"a": 4 bytes before it/);
  assert.match(await complaintAbout({ a: entry('F32', [1], 0, 4) }, two), /4 bytes after the last tensor/);
  assert.match(await complaintAbout({ a: entry('F32', [3], 0, 12) }, two), /"a": ends at byte .* truncated/);
  assert.match(await complaintAbout({ a: entry('F32', [2 ** 30, 2 ** 30], 0, 8) }, two), /"a": shape/);
});

test('what is not there', async () => {
  using folder = temporaryFolder();
  const path = (name: string) => join(folder.path, name);
  await rejectsWith(() => openSafetensors(path('nowhere')), 'CHECKPOINT_MISSING');
  assert.match(
    await rejectsWith(() => openSafetensors(folder.path), 'CHECKPOINT_MISSING'),
    /has no model\.safetensors or its index/,
  );
  writeFileSync(path('pytorch_model.bin'), '');
  assert.match(
    await rejectsWith(() => openSafetensors(folder.path), 'CHECKPOINT_MISSING'),
    /there are PyTorch weights only \(pytorch_model\.bin\)/,
  );
  mkdirSync(path('model.safetensors'));
  await rejectsWith(() => openSafetensors(folder.path), 'CHECKPOINT_MISSING');
});

test('a tensor in two shards, of which the index names one', async () => {
  using folder = temporaryFolder();
  const path = (name: string) => join(folder.path, name);
  const write = (name: string, ...tensors: string[]) => {
    const entries = tensors.map((tensor, i) => [tensor, entry('F32', [1], 4 * i, 4 * i + 4)]);
    const header = JSON.stringify(Object.fromEntries(entries));
    writeFileSync(path(name), rawFile({ header, data: new Uint8Array(4 * tensors.length) }));
  };
  write('one.safetensors', 'a', 'left');
  write('two.safetensors', 'b');
  const map = { a: 'one.safetensors', b: 'two.safetensors' };
  writeFileSync(path('model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  const checkpoint = await openSafetensors(folder.path);
  assert.equal([...checkpoint.names].sort(), ['a', 'b', 'left']);
  await checkpoint.close();
  write('two.safetensors', 'b', 'a');
  const message = await rejectsWith(() => openSafetensors(folder.path), 'CHECKPOINT_CORRUPT');
  assert.match(message, /two\.safetensors: tensor "a" is also in .*one\.safetensors/);
});

test('an index and its shards', async () => {
  using folder = temporaryFolder();
  const path = (name: string) => join(folder.path, name);
  const index = (weightMap: unknown) =>
    writeFileSync(path('model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
  const shard = (name: string, tensor: string, value: number) =>
    writeFileSync(
      path(name),
      rawFile({ header: JSON.stringify({ [tensor]: entry('F32', [1], 0, 4) }), data: f32(value) }),
    );
  shard('one.safetensors', 'a', 1);
  shard('two.safetensors', 'b', 2);

  index({ a: 'one.safetensors', b: 'two.safetensors' });
  const checkpoint = await openSafetensors(folder.path);
  assert.equal(checkpoint.names, ['a', 'b']);
  assert.equal(await checkpoint.read('b'), f32(2));
  await checkpoint.close();

  const opening = () => openSafetensors(folder.path);
  index({ a: 'one.safetensors', b: 'three.safetensors' });
  assert.match(await rejectsWith(opening, 'CHECKPOINT_MISSING'), /three\.safetensors.*named by/);
  index({ a: 'one.safetensors', b: 'one.safetensors' });
  assert.match(await rejectsWith(opening, 'CHECKPOINT_CORRUPT'), /one\.safetensors: has no tensor "b"/);
  for (const outside of ['../one.safetensors', '/etc/one.safetensors', 'a\\one.safetensors', '..', 7]) {
    index({ a: outside });
    assert.match(await rejectsWith(opening, 'CHECKPOINT_CORRUPT'), /not the file name of a shard/);
  }
  index([]);
  assert.match(await rejectsWith(opening, 'CHECKPOINT_CORRUPT'), /weight_map/);
  writeFileSync(path('model.safetensors.index.json'), '{');
  await rejectsWith(opening, 'CONFIG_INVALID');
});

test.run();
