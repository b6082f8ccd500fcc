import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asF32, decodeToF32, encodeFromF32 } from '../../engine/dtype.js';
import { RmError } from '../../engine/errors.js';
import { seededRandom } from '../../engine/random.js';
import { dequantizedOnHost } from '../../kernels/cases/blockFormats.js';
import type { BlockFormat } from '../../kernels/index.js';
import { encodeAs } from '../../model/gguf/encode.js';
import { ggufFamilies } from '../../model/gguf/families.js';
import { withGgufFile } from '../../model/gguf/file.js';
import { MoreBytesNeeded, parseGgufHeader } from '../../model/gguf/header.js';
import { ggufName, huggingFaceName, huggingFaceNames } from '../../model/gguf/names.js';
import { headRuns, inGgufOrder, rotaryHalfRow, rotaryPairRow, rowOrder } from '../../model/gguf/rowOrder.js';
import { ggmlType } from '../../model/gguf/tensorTypes.js';
import { type GgufValue, ggufArray } from '../../model/gguf/values.js';
import { type GgufTensorSource, writeGgufFile } from '../../model/gguf/writer.js';
import { openCheckpoint, openTextReader, readArchitecture } from '../../model/index.js';
import { loadChatTemplate } from '../../model/text/chat.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { prunedMetadata } from '../../model/writing/ggufPrunedMetadata.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';

const tiny = dataPath('gguf', 'tiny.gguf');
const original = new Uint8Array(readFileSync(tiny));

const base64F32 = (text: string) => asF32(new Uint8Array(Buffer.from(text, 'base64')));

test('tensors of a file that gguf has written: names, shapes, order of rows and values', async () => {
  const golden = JSON.parse(readFileSync(dataPath('gguf', 'tiny.json'), 'utf8')) as {
    tensors: Record<string, { shape: number[]; values: string }>;
  };
  const checkpoint = await openCheckpoint(tiny);
  const blocks = new Set<string>();
  for (const [name, { shape, values }] of Object.entries(golden.tensors)) {
    const info = checkpoint.info(name);
    assert.equal(info.shape, shape, name);
    const bytes = await checkpoint.read(name);
    const expected = base64F32(values);
    const format = info.blocks as BlockFormat | undefined;
    if (format) blocks.add(format);
    const found = format ? dequantizedOnHost(bytes, format, expected.length) : decodeToF32(bytes, info.dtype);
    for (const [i, value] of expected.entries())
      assert.ok(Math.abs(found[i]! - value) < 1e-7, `${name} ${i}`);
  }
  assert.equal([...blocks].sort(), ['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0']);
  // A range that begins and ends within a head.
  const q = 'model.layers.0.self_attn.q_proj.weight';
  const whole = await checkpoint.read(q);
  assert.equal(await checkpoint.readRange(q, 3 * 18, 9 * 18), whole.slice(3 * 18, 12 * 18));
  await checkpoint.close();
});

test('metadata as architecture, tokenizer and chat template', async () => {
  const arch = await readArchitecture(tiny);
  assert.equal(
    [arch.family, arch.layers, arch.hidden, arch.intermediate, arch.heads, arch.kvHeads, arch.headDim],
    ['llama', 2, 32, 64, 4, 2, 8],
  );
  assert.equal([arch.vocab, arch.contextLength, arch.tiedEmbeddings, arch.norm.eps], [264, 128, true, 1e-5]);
  assert.equal(arch.ropes, [{ kind: 'default', theta: 50_000, rotaryDim: 8 }]);
  const tokenizer = await loadTokenizer(tiny);
  // 't' and 'h' are bytes 116 and 104, their merge is token 256.
  assert.equal(await tokenizer.encode('that<end>'), [256, 97, 116, 257]);
  assert.is(await tokenizer.decode([256, 97, 116]), 'that');
  assert.equal(tokenizer.eosIds, [257]);
  const chat = await loadChatTemplate(tiny, tokenizer);
  assert.is(await chat.renderChat([{ role: 'user', content: 'hi' }]), 'hi<end>');
});

test('a template that writes a marker without a token is refused where it does', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'marker.gguf');
  const bytes = Buffer.from(original);
  bytes.write('<|e|>', bytes.indexOf('<end>', bytes.indexOf('tokenizer.chat_template')));
  writeFileSync(path, bytes);
  const { tokenizer, chat } = await openTextReader(path);
  assert.equal(await tokenizer.encode('that'), [256, 97, 116]);
  const render = () => chat.renderChat([{ role: 'user', content: 'hi' }]);
  assert.match(await rejectsWith(render, 'CONFIG_INVALID'), /marker\.gguf: .*writes <\|e\|>/);
  const { chat: sound } = await openTextReader(tiny);
  assert.is(await sound.renderChat([{ role: 'user', content: 'a <|e|>' }]), 'a <|e|><end>', 'of the user');
});

test('rows of q and k: both orders are inverse', () => {
  for (let row = 0; row < 24; row++) {
    assert.is(rotaryPairRow(rotaryHalfRow(row, 8), 8), row);
    assert.is(Math.floor(rotaryPairRow(row, 8) / 8), Math.floor(row / 8));
  }
  // Row 0 and row 4 rotate together in transformers, rows 0 and 1 in llama.cpp.
  assert.equal(
    [0, 4, 1, 5].map(row => rotaryPairRow(row, 8)),
    [0, 1, 2, 3],
  );
});

test('fused rows: group by group in transformers, all queries, keys and values in llama.cpp', () => {
  // 4 query heads, 2 key and value heads: of each group q q k v. Heads of 3 rows.
  const order = rowOrder('groups', 24, { heads: 4, kvHeads: 2 })!;
  const rows = (heads: number[]) => heads.flatMap(head => [3 * head, 3 * head + 1, 3 * head + 2]);
  const theirs = ['q0', 'q1', 'k0', 'v0', 'q2', 'q3', 'k1', 'v1'];
  const ours = ['q0', 'q1', 'q2', 'q3', 'k0', 'k1', 'v0', 'v1'];
  assert.equal(
    [...inGgufOrder(Uint8Array.from(rows([0, 1, 2, 3, 4, 5, 6, 7])), 1, order)],
    rows(ours.map(name => theirs.indexOf(name))),
  );
  const runs = [...headRuns(order, 0, 8)];
  assert.equal(
    runs.flatMap(({ place, heads }) => ours.slice(place, place + heads)),
    theirs,
  );
  assert.is(runs.length, 6);
  assert.is(rowOrder('groups', 23, { heads: 4, kvHeads: 2 }), undefined);
  assert.is(rowOrder('queryPairs', 12, { heads: 4, kvHeads: 2 }), undefined, 'heads of 3 rows have no pairs');
});

test('names go both ways for every family', () => {
  for (const family of ggufFamilies) {
    const { outerTensors, layerPrefix } = family;
    const names = {
      embedding: `${outerTensors.token_embd}.weight`,
      finalNorm: `${outerTensors.output_norm}.weight`,
      finalNormBias: null,
      lmHead: 'lm_head.weight',
      layerPrefix,
    };
    for (const part of Object.keys(family.layerTensors)) {
      const name = `blk.17.${part}.weight`;
      const theirs = huggingFaceNames(family, name, [3, 4, 5]);
      assert.ok(theirs.length === 1 || theirs.length === 3);
      for (const one of theirs) assert.is(ggufName(family, names, one), name);
      const bias = huggingFaceName(family, `blk.17.${part}.bias`);
      assert.is(bias !== undefined, family.biases.includes(part));
    }
    assert.is(huggingFaceName(family, 'blk.1.constructor.weight'), undefined);
    assert.is(huggingFaceName(family, 'toString.weight'), undefined);
  }
});

test('Q8_0 as the package gguf quantises', () => {
  const { Q8_0 } = JSON.parse(readFileSync(dataPath('gguf', 'blocks.json'), 'utf8')) as Record<
    string,
    { source: string; bytes: string }
  >;
  const source = new Uint8Array(Buffer.from(Q8_0!.source, 'base64'));
  assert.is(Buffer.from(encodeAs(source, 'f32', 'Q8_0')).toString('base64'), Q8_0!.bytes);
  assert.equal(encodeAs(source, 'f32', 'BF16'), encodeFromF32(asF32(source), 'bf16'));
});

test('what is written is read again: every type of value, tensors aligned', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'a.gguf');
  const metadata = new Map<string, GgufValue>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['llama.block_count', { type: 'u32', value: 3 }],
    ['llama.kinds', ggufArray('string', ['a', 'é', 'c'])],
    ['llama.layers_too', ggufArray('u64', [1, 2, 2 ** 40])],
    ['llama.other', ggufArray('f32', [0.5, 0.25])],
    ['nested', ggufArray('array', [{ of: 'bool', length: 1, values: () => [true] }])],
    ['i', { type: 'i64', value: -5 }],
    ['small', { type: 'i8', value: -128 }],
    ['half', { type: 'f64', value: 0.1 }],
    ['yes', { type: 'bool', value: true }],
  ]);
  const tensors: GgufTensorSource[] = [
    { name: 'x', type: ggmlType('F32'), shape: [3], bytes: () => Uint8Array.of(...new Array(12).keys()) },
    {
      name: 'y',
      type: ggmlType('Q8_0'),
      shape: [2, 32],
      bytes: () => [new Uint8Array(34), new Uint8Array(34)],
    },
  ];
  await writeGgufFile(path, metadata, tensors);
  await withGgufFile(path, async file => {
    assert.is(file.metadata.size, metadata.size);
    assert.equal(file.metadata.get('i')?.value, -5);
    assert.equal(file.metadata.get('half')?.value, 0.1);
    const list = (key: string) => {
      const entry = file.metadata.get(key)!;
      return entry.type === 'array' ? entry.value.values() : undefined;
    };
    assert.equal(list('llama.kinds'), ['a', 'é', 'c']);
    assert.equal(list('nested'), [[true]]);
    assert.equal(
      file.tensors.map(({ begin }) => begin % 32),
      [0, 0],
    );
    const [x] = file.tensors;
    assert.equal([...(await file.read(x!.begin, 12))], [...new Array(12).keys()]);

    const cut = prunedMetadata(file, [0, 2], 1_234_567);
    const values = (key: string) => {
      const entry = cut.get(key) as GgufValue;
      return entry.type === 'array' ? entry.value.values() : entry.value;
    };
    assert.is(values('llama.block_count'), 2);
    assert.equal(values('llama.kinds'), ['a', 'c']);
    assert.equal(values('llama.layers_too'), [1, 2 ** 40]);
    assert.equal(values('llama.other'), [0.5, 0.25]);
    assert.is(values('general.size_label'), '1.2M');
    assert.is(values('general.name'), 'llama (2 of 3 layers)');
  });
});

/** Everything about a model file that is read before its weights. */
async function readAll(path: string): Promise<void> {
  await readArchitecture(path);
  const checkpoint = await openCheckpoint(path);
  try {
    for (const name of checkpoint.names) checkpoint.info(name);
  } finally {
    await checkpoint.close();
  }
  using _ = await loadTokenizer(path);
}

const typed = new Set(['CHECKPOINT_CORRUPT', 'CONFIG_INVALID', 'UNSUPPORTED_FAMILY', 'UNSUPPORTED_DTYPE']);

/** Reads changed bytes as a file: nothing, or a typed error, within a second. */
async function survives(path: string, bytes: Uint8Array, what: string): Promise<boolean> {
  writeFileSync(path, bytes);
  const started = performance.now();
  let refused = false;
  try {
    await readAll(path);
  } catch (error) {
    if (!(error instanceof RmError) || !typed.has(error.code)) throw error;
    assert.ok(error.message.includes(path), `${what}: names the file`);
    refused = true;
  }
  assert.ok(performance.now() - started < 10_000, `${what} took ${performance.now() - started} ms`);
  return refused;
}

test('a file cut anywhere is refused', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'cut.gguf');
  const lengths = [0, 3, 4, 8, 16, 23, 24, 30, 100, 1000, 5000, 8000, 20_000, original.length - 65];
  for (const length of lengths) {
    assert.ok(await survives(path, original.subarray(0, length), `cut at ${length}`), `${length}`);
  }
});

test('changed bytes give a typed error or a model, never a crash, a hang or much memory', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'changed.gguf');
  const random = seededRandom(7);
  const headerEnd = original.length - 32_000;
  const before = process.memoryUsage().rss;
  for (let round = 0; round < 60; round++) {
    const bytes = original.slice();
    const at = Math.floor(random() * headerEnd);
    // Every third time a length becomes huge, else one byte changes.
    if (round % 3 === 0) bytes.fill(0xff, at, at + 8);
    else bytes[at] = Math.floor(256 * random());
    await survives(path, bytes, `byte ${at} of round ${round}`);
  }
  assert.ok(process.memoryUsage().rss - before < 500 << 20, 'memory');
});

test('what is wrong with a header is said', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'wrong.gguf');
  const refused = async (change: (view: DataView, bytes: Uint8Array) => void) => {
    const bytes = original.slice();
    change(new DataView(bytes.buffer), bytes);
    writeFileSync(path, bytes);
    return rejectsWith(() => openCheckpoint(path), 'CHECKPOINT_CORRUPT');
  };
  assert.match(await refused(view => view.setUint8(0, 0x58)), /not with "GGUF"/);
  assert.match(await refused(view => view.setUint32(4, 1, true)), /version 1/);
  assert.match(await refused(view => view.setUint32(4, 3, false)), /big-endian/);
  assert.match(await refused(view => view.setBigUint64(8, 2n ** 60n, true)), /number of tensors/);
  assert.match(await refused(view => view.setBigUint64(16, 2n ** 63n, true)), /number of metadata entries/);
  assert.match(await refused(view => view.setBigUint64(24, 2n ** 40n, true)), /length of a metadata key/);
});

/** A file of one f32 tensor of four numbers, whose description `change` may alter. */
async function fileOf(
  path: string,
  { metadata = [], tensors }: { metadata?: [string, GgufValue][]; tensors?: Partial<GgufTensorSource>[] },
): Promise<void> {
  const sources = (tensors ?? [{}]).map((tensor, i) => ({
    name: `t${i}`,
    type: ggmlType('F32'),
    shape: [4],
    bytes: () => new Uint8Array(16),
    ...tensor,
  }));
  await writeGgufFile(
    path,
    new Map([['general.architecture', { type: 'string', value: 'llama' }], ...metadata]),
    sources,
  );
}

test('duplicates, overlaps, alignment, shapes and nesting', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'wrong.gguf');
  const two = { tensors: [{ name: 'aa' }, { name: 'bb' }] };
  const edited = async (given: Parameters<typeof fileOf>[1], from: string | Uint8Array, to: Uint8Array) => {
    await fileOf(path, given);
    const bytes = readFileSync(path);
    const at = bytes.indexOf(from);
    assert.ok(at >= 0, 'the place to change is there');
    bytes.set(to, at);
    writeFileSync(path, bytes);
    return rejectsWith(() => openCheckpoint(path), 'CHECKPOINT_CORRUPT');
  };
  const text = (value: string) => new TextEncoder().encode(value);
  assert.match(await edited(two, 'bb', text('aa')), /"aa" appears twice/);
  const keys: [string, GgufValue][] = [
    ['k.a', { type: 'u8', value: 1 }],
    ['k.b', { type: 'u8', value: 1 }],
  ];
  assert.match(await edited({ metadata: keys }, 'k.b', text('k.a')), /"k.a" appears twice/);
  // name, number of dimensions, extent, type, offset.
  const described = (name: string, extent: bigint, type: number, offset: bigint) => {
    const bytes = new Uint8Array(name.length + 28);
    const view = new DataView(bytes.buffer);
    bytes.set(text(name));
    view.setUint32(name.length, 1, true);
    view.setBigUint64(name.length + 4, extent, true);
    view.setUint32(name.length + 12, type, true);
    view.setBigUint64(name.length + 16, offset, true);
    return bytes.subarray(0, name.length + 24);
  };
  assert.match(await edited(two, 'bb', described('bb', 4n, 0, 0n)), /"bb": overlaps tensor "aa"/);
  assert.match(await edited(two, 'bb', described('bb', 4n, 0, 33n)), /not a multiple of 32/);
  assert.match(await edited(two, 'bb', described('bb', 4n, 0, 64n)), /truncated/);
  assert.match(await edited(two, 'bb', described('bb', 0n, 0, 32n)), /has the impossible shape \[0\]/);
  assert.match(await edited(two, 'bb', described('bb', 2n ** 62n, 0, 32n)), /has the impossible shape/);
  assert.match(await edited(two, 'bb', described('bb', 4n, 999, 32n)), /unknown type 999/);
  assert.match(await edited(two, 'bb', described('bb', 33n, 8, 32n)), /not whole blocks of 32 \(Q8_0\)/);
  for (const value of [0, 3, 33, 2 ** 30]) {
    await fileOf(path, { metadata: [['general.alignment', { type: 'u32', value }]] });
    assert.match(await rejectsWith(() => openCheckpoint(path), 'CHECKPOINT_CORRUPT'), /power of two/);
  }
  let deep: GgufValue = ggufArray('u8', [1]);
  for (let i = 0; i < 6; i++) deep = ggufArray('array', [deep.value]);
  await fileOf(path, { metadata: [['deep', deep]] });
  assert.match(await rejectsWith(() => openCheckpoint(path), 'CHECKPOINT_CORRUPT'), /nests lists 5 deep/);
});

test('a header longer than what was read asks for more; one of a huge file is not read whole', () => {
  assert.throws(
    () => parseGgufHeader(original.subarray(0, 100), original.length, 'f'),
    (error: unknown) => error instanceof MoreBytesNeeded,
  );
  // 2^40 strings fit a file of 10 TB by its size alone: more bytes are asked for, none are set aside.
  const bytes = original.slice();
  new DataView(bytes.buffer).setBigUint64(16, 2n ** 40n, true);
  assert.throws(
    () => parseGgufHeader(bytes.subarray(0, 64), 2 ** 46, 'f'),
    (error: unknown) => error instanceof MoreBytesNeeded,
  );
});

test('what is not supported is named', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'other.gguf');
  const message = async (metadata: [string, GgufValue][], tensors?: Partial<GgufTensorSource>[]) => {
    await fileOf(path, { metadata, ...(tensors && { tensors }) });
    return rejectsWith(() => openCheckpoint(path), 'UNSUPPORTED_FAMILY');
  };
  const u32 = (value: number): GgufValue => ({ type: 'u32', value });
  assert.match(
    await message([['general.architecture', { type: 'string', value: 'mamba' }]]),
    /"mamba"; GGUF files are supported for llama/,
  );
  assert.match(await message([['llama.expert_count', u32(8)]]), /llama.expert_count/);
  assert.match(await message([['split.count', u32(3)]]), /one part of a model in 3 files/);
  assert.match(
    await message([], [{ name: 'blk.0.ffn_gate_exps.weight' }]),
    /"blk.0.ffn_gate_exps.weight" is not supported in llama/,
  );
  await fileOf(path, {
    tensors: [
      {
        name: 'blk.0.ffn_up.weight',
        type: ggmlType('Q2_K'),
        shape: [1, 256],
        bytes: () => new Uint8Array(84),
      },
    ],
  });
  const checkpoint = await openCheckpoint(path);
  const name = 'model.layers.0.mlp.up_proj.weight';
  assert.match(await rejectsWith(() => checkpoint.info(name), 'UNSUPPORTED_DTYPE'), /stored as Q2_K/);
  await checkpoint.close();
});

test.run();
