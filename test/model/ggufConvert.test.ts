import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { decodeToF32, encodeFromF32 } from '../../engine/dtype.js';
import { Device } from '../../engine/index.js';
import { withGgufFile } from '../../model/gguf/file.js';
import { ggmlType } from '../../model/gguf/tensorTypes.js';
import { writeGgufFile } from '../../model/gguf/writer.js';
import {
  convert,
  loadTokenizer,
  logits,
  Model,
  openCheckpoint,
  readArchitecture,
} from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { dataPath, type TemporaryFolder, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';

const llama3 = {
  rope_theta: 500_000,
  rope_scaling: {
    rope_type: 'llama3',
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  },
  max_position_embeddings: 65_536,
};

let device: Device;
let place: TemporaryFolder;
const at = (name: string) => join(place.path, name);
test.before(async () => {
  device = await Device.open();
  place = temporaryFolder();
});
test.after(async () => {
  place[Symbol.dispose]();
  await device.close();
});

const ids = [1, 84, 104, 101, 32, 99, 97, 116, 256, 9];

async function logitsOf(path: string): Promise<Float32Array> {
  using model = await Model.load(device, path);
  return (await logits(model, ids)).logits;
}

/** Name -> type, and the bytes of every tensor of a GGUF file. */
const tensorsOf = (path: string) =>
  withGgufFile(path, async file => {
    const found = new Map<string, { type: string; bytes: Uint8Array }>();
    for (const { name, type, begin, end } of file.tensors) {
      found.set(name, { type: type.name, bytes: await file.read(begin, end - begin) });
    }
    return { found, metadata: file.metadata };
  });

test('a folder becomes a GGUF file and a folder again: equal weights, logits and tokens', async () => {
  const [folder, file, back] = [at('folder'), at('there.gguf'), at('back')];
  for (const [name, config] of Object.entries({
    tied: {},
    untied: { tie_word_embeddings: false, attention_bias: true, mlp_bias: true, ...llama3 },
  })) {
    const [a, b, c] = [folder, file, back].map(path => path.replace(/(\.gguf)?$/, `-${name}$1`)) as [
      string,
      string,
      string,
    ];
    await withFolder(a, config);
    const there = await convert(device, a, b);
    assert.equal(there.verification, { tokens: 16, maxLogitDifference: 0 });
    const again = await convert(device, b, c);
    assert.equal(again.verification, { tokens: 16, maxLogitDifference: 0 });
    assert.ok(maxAbsError(await logitsOf(c), await logitsOf(a)) < 1e-5);
    const [before, after] = [await openCheckpoint(a), await openCheckpoint(c)];
    assert.equal([...after.names].sort(), [...before.names].sort());
    for (const tensor of before.names) {
      const values = async (checkpoint: typeof before) =>
        decodeToF32(await checkpoint.read(tensor), checkpoint.info(tensor).dtype);
      assert.equal(await values(after), await values(before), tensor);
    }
    await before.close();
    await after.close();
    const { tensorNames: _, dtype: __, ...known } = await readArchitecture(a);
    const { tensorNames: ___, dtype: ____, ...found } = await readArchitecture(c);
    assert.equal(found, known);
    const [mine, theirs] = [await loadTokenizer(a), await loadTokenizer(c)];
    const text = "It's 12 o'clock — naïve\t <end> ok";
    assert.equal(await theirs.encode(text), await mine.encode(text));
    assert.equal(theirs.eosIds, mine.eosIds);
  }
  assert.is((await tensorsOf(at('there-untied.gguf'))).found.get('rope_freqs.weight')?.type, 'F32');
});

async function withFolder(path: string, config: Record<string, unknown>): Promise<void> {
  mkdirSync(path, { recursive: true });
  await writeTinyModel(path, { config });
}

test('q8_0: matrices in blocks where rows allow it, vectors f32, logits near', async () => {
  const [folder, file] = [at('folder-tied'), at('q8.gguf')];
  const { verification } = await convert(device, folder, file, { type: 'Q8_0' });
  assert.is(verification, null);
  const { found, metadata } = await tensorsOf(file);
  assert.is(found.get('blk.0.attn_q.weight')?.type, 'Q8_0');
  // Rows of 48 are no whole blocks of 32.
  assert.is(found.get('blk.0.ffn_down.weight')?.type, 'F16');
  assert.is(found.get('blk.0.attn_norm.weight')?.type, 'F32');
  assert.is(metadata.get('general.file_type')?.value, 7);
  const [exact, rounded] = [await logitsOf(folder), await logitsOf(file)];
  const error = maxAbsError(rounded, exact) / Math.max(...exact.map(Math.abs));
  assert.ok(error > 0 && error < 0.05, `${error}`);
});

test('a GGUF file pruned to a GGUF file: untouched tensors bit for bit, names and lists cut', async () => {
  const [from, out] = [at('q8.gguf'), at('pruned.gguf')];
  const report = await prune(from, out, {
    device,
    window: 1,
    layers: 2,
    method: 'replaceme-ls',
    tokens: 600,
  });
  assert.equal(report.output.keptLayers, [0, 1, 4, 5]);
  assert.ok(report.verification.maxLogitDifference <= 1e-4);
  const [before, after] = [await tensorsOf(from), await tensorsOf(out)];
  assert.is(after.metadata.get('llama.block_count')?.value, 4);
  assert.is(after.metadata.get('general.name')?.value, 'folder-tied (4 of 6 layers)');
  assert.is(after.metadata.get('general.base_model.0.name')?.value, 'folder-tied');
  assert.equal(
    after.metadata.get('tokenizer.ggml.tokens')?.bytes,
    before.metadata.get('tokenizer.ggml.tokens')?.bytes,
  );
  assert.is(after.found.size, before.found.size - 2 * 9);
  for (const [name, { type, bytes }] of after.found) {
    const old = name.replace(/^blk\.(\d+)\./, (_, layer) => `blk.${[0, 1, 4, 5][layer]}.`);
    if (name === 'blk.1.ffn_down.weight') {
      assert.is(type, 'F16');
      assert.not.equal(bytes, before.found.get(old)!.bytes);
    } else {
      assert.is(type, before.found.get(old)!.type, name);
      assert.equal(bytes, before.found.get(old)!.bytes, name);
    }
  }
  const written = JSON.parse(readFileSync(at('pruned.report.json'), 'utf8')) as { output: { path: string } };
  assert.is(written.output.path, 'pruned.gguf');
  assert.ok(existsSync(at('pruned.report.html')));
  assert.equal(
    readdirSync(place.path).filter(name => name.includes('rm-engine-')),
    [],
  );
});

test('pruned across forms: GGUF to folder, folder to GGUF', async () => {
  const options = { device, remove: [2, 3], method: 'plain', report: 'none' } as const;
  await prune(at('q8.gguf'), at('from-gguf'), options);
  await prune(at('q8.gguf'), at('a.gguf'), options);
  assert.ok(maxAbsError(await logitsOf(at('from-gguf')), await logitsOf(at('a.gguf'))) < 1e-5);
  await prune(at('folder-tied'), at('from-folder.gguf'), options);
  await prune(at('folder-tied'), at('from-folder'), options);
  assert.ok(maxAbsError(await logitsOf(at('from-folder.gguf')), await logitsOf(at('from-folder'))) < 1e-5);
  assert.is((await tensorsOf(at('from-folder.gguf'))).found.get('blk.3.ffn_up.weight')?.type, 'BF16');
});

test('--dtype: blocks become that type without a step between, in files and folders', async () => {
  const options = { device, remove: [2, 3], method: 'plain', report: 'none', dtype: 'bf16' } as const;
  await prune(at('q8.gguf'), at('bf16.gguf'), options);
  const { found } = await tensorsOf(at('bf16.gguf'));
  assert.is(found.get('blk.0.attn_q.weight')?.type, 'BF16');
  assert.is(found.get('blk.0.attn_norm.weight')?.type, 'F32');
  await prune(at('q8.gguf'), at('bf16'), options);
  assert.ok(maxAbsError(await logitsOf(at('bf16')), await logitsOf(at('bf16.gguf'))) < 1e-5);
  const checkpoint = await openCheckpoint(at('bf16'));
  assert.is(checkpoint.info('model.layers.0.input_layernorm.weight').dtype, 'bf16');
  await checkpoint.close();
});

/** The file at `path` with all ffn_down as rows of Q4_K, and the f32 values of such a row as the Python package reads it. */
async function withKQuants(path: string, out: string): Promise<Float32Array> {
  const { Q4_K } = JSON.parse(readFileSync(dataPath('gguf', 'blocks.json'), 'utf8')) as {
    Q4_K: { bytes: string; values: string };
  };
  const row = Buffer.from(Q4_K.bytes, 'base64').subarray(0, 144);
  await withGgufFile(path, file =>
    writeGgufFile(
      out,
      file.metadata,
      file.tensors.map(({ name, type, shape, begin, end }) => {
        const blocks = name.endsWith('ffn_down.weight');
        const bytes = async () =>
          blocks
            ? Buffer.concat(Array.from({ length: shape[0]! }, () => row))
            : file.read(begin, end - begin);
        return { name, type: blocks ? ggmlType('Q4_K') : type, shape, bytes };
      }),
    ),
  );
  return decodeToF32(Buffer.from(Q4_K.values, 'base64'), 'f32').slice(0, 256);
}

test('k-quants: pruned with --dtype and converted with a type, weights are those of the blocks, rounded once', async () => {
  await withFolder(at('wide'), { hidden_size: 64, intermediate_size: 256, head_dim: 16 });
  await convert(device, at('wide'), at('wide.gguf'));
  const row = await withKQuants(at('wide.gguf'), at('k.gguf'));
  const expected = (dtype: 'f32' | 'f16' | 'bf16') => decodeToF32(encodeFromF32(row, dtype), dtype);
  const down = 'model.layers.0.mlp.down_proj.weight';
  const check = async (path: string, dtype: 'f32' | 'f16' | 'bf16') => {
    const checkpoint = await openCheckpoint(path);
    const found = decodeToF32(await checkpoint.readRange(down, 0, 256 * (dtype === 'f32' ? 4 : 2)), dtype);
    assert.is(checkpoint.info(down).dtype, dtype, path);
    await checkpoint.close();
    const worst = maxAbsError(found, expected(dtype)) / Math.max(...row.map(Math.abs));
    // Dequantised in f32: a last digit may differ, and with it the rounding.
    assert.ok(worst <= { f32: 1e-6, f16: 2 ** -11, bf16: 2 ** -8 }[dtype], `${path}: ${worst}`);
  };
  const options = { device, remove: [2, 3], method: 'plain', report: 'none' } as const;
  for (const dtype of ['f32', 'f16', 'bf16'] as const) {
    await prune(at('k.gguf'), at(`k-${dtype}.gguf`), { ...options, dtype });
    await check(at(`k-${dtype}.gguf`), dtype);
    const type = dtype.toUpperCase() as 'F32' | 'F16' | 'BF16';
    const { verification } = await convert(device, at('k.gguf'), at(`k-${dtype}`), { type });
    assert.equal(verification, { tokens: 16, maxLogitDifference: 0 });
    await check(at(`k-${dtype}`), dtype);
  }
  await prune(at('k.gguf'), at('k-pruned-f32'), { ...options, dtype: 'f32' });
  await check(at('k-pruned-f32'), 'f32');
  await convert(device, at('k.gguf'), at('k-wide.gguf'), { type: 'F32' });
  await check(at('k-wide.gguf'), 'f32');
  const config = JSON.parse(readFileSync(at('k-f32/config.json'), 'utf8')) as Record<string, unknown>;
  assert.is(config.torch_dtype, 'float32');
  await rejectsWith(() => convert(device, at('k.gguf'), at('x'), { type: 'Q8_0' }), 'INVALID_ARGUMENT');
});

test('a file that the Python package has written computes; per-layer lists are cut', async () => {
  const file = dataPath('gguf', 'tiny.gguf');
  await prune(file, at('tiny.gguf'), { device, remove: [1], method: 'plain', report: 'none' });
  const { metadata } = await tensorsOf(at('tiny.gguf'));
  const heads = metadata.get('llama.attention.head_count_kv');
  assert.equal(heads?.type === 'array' && heads.value.values(), [2]);
  assert.ok((await logitsOf(at('tiny.gguf'))).every(Number.isFinite));
});

test('what cannot be written as GGUF is refused, and nothing is left', async () => {
  const folder = at('other');
  await withFolder(folder, {});
  const path = join(folder, 'tokenizer.json');
  const definition = JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  const refusal = async (change: Record<string, unknown>) => {
    writeFileSync(path, JSON.stringify({ ...definition, ...change }));
    return rejectsWith(() => convert(device, folder, at('other.gguf')), 'CONFIG_INVALID');
  };
  const split = { type: 'Split', pattern: { Regex: 'x+' }, behavior: 'Isolated', invert: false };
  assert.match(await refusal({ pre_tokenizer: split }), /none of the known ones \(gpt-2/);
  assert.match(await refusal({ normalizer: { type: 'Lowercase' } }), /Lowercase/);
  writeFileSync(path, JSON.stringify(definition));
  await rejectsWith(() => convert(device, folder, at('q8.gguf')), 'OUTPUT_EXISTS');
  await rejectsWith(() => convert(device, at('q8.gguf'), at('q8.gguf'), { force: true }), 'OUTPUT_EXISTS');
  await rejectsWith(() => convert(device, at('missing.gguf'), at('x')), 'CHECKPOINT_MISSING');
  assert.equal(
    readdirSync(place.path).filter(name => name.startsWith('x') || name.startsWith('other.')),
    [],
  );
});

test.run();
