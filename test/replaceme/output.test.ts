import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, decodeToF32 } from '../../engine/index.js';
import { evaluate, logits, Model, openSafetensors, writeSafetensorsFile } from '../../model/index.js';
import { prune } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped } from '../support.js';
import { options, workplace } from './workplace.js';

const torchNames = { f32: 'float32', f16: 'float16', bf16: 'bfloat16' } as const;
const dtypes = ['f32', 'f16', 'bf16'] as const;

/** All tensors of a folder: dtype and values. */
async function tensorsOf(folder: string) {
  const checkpoint = await openSafetensors(folder);
  const found = new Map<string, { dtype: string; values: Float32Array }>();
  for (const name of checkpoint.names) {
    const { dtype } = checkpoint.info(name);
    found.set(name, { dtype, values: decodeToF32(await checkpoint.read(name), dtype) });
  }
  await checkpoint.close();
  return found;
}

const config = (folder: string) => JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));

test('dtype: every tensor in that type, rounded once; the new ones with all the bits it has', async () => {
  using place = await workplace();
  await using device = await Device.open();
  const stored = await tensorsOf(place.model);
  /** Relative distance of neighbours: half of it is the largest rounding. */
  const spacing = { f32: 0, f16: 2 ** -10, bf16: 0 };
  for (const dtype of dtypes) {
    const out = join(place.path, dtype);
    const report = await prune(place.model, out, {
      ...options(place.calibration, { remove: [3, 4], report: 'none', layers: undefined as never }),
      ...{ device, dtype },
    });
    assert.is(report.verification.maxLogitDifference, 0);
    assert.is(report.recipe.dtype, dtype);
    assert.is(config(out).torch_dtype, torchNames[dtype]);
    const written = await tensorsOf(out);
    for (const [name, { dtype: found, values }] of written) {
      assert.is(found, dtype, name);
      const patched = name === 'model.layers.2.mlp.down_proj.weight';
      const before = stored.get(name.replace(/layers\.3\./, 'layers.5.'))!.values;
      if (patched) {
        assert.not.equal(values, before);
        const beyondBf16 = new Uint32Array(values.buffer).filter(bits => (bits & 0xffff) !== 0).length;
        assert.is(beyondBf16 > values.length / 2, dtype !== 'bf16');
        continue;
      }
      const worst = values.reduce((most, value, i) => {
        const [exact, error] = [Math.abs(before[i]!), Math.abs(value - before[i]!)];
        // Below 2^-14 the numbers of f16 have a distance of 2^-24.
        return Math.max(most, error / Math.max(exact, 2 ** -14));
      }, 0);
      assert.ok(worst <= spacing[dtype] / 2, `${name} as ${dtype}: ${worst}`);
    }
  }
});

test('a value that f16 cannot hold is refused with the tensor named, and nothing is written', async () => {
  const name = 'model.layers.5.mlp.up_proj.weight';
  using place = await workplace({
    values: (tensor, values) => {
      if (tensor === name) values[7] = 1e5;
    },
  });
  const before = place.left();
  const message = await rejectsWith(
    () => prune(place.model, place.out, { ...options(place.calibration), dtype: 'f16' }),
    'NOT_FINITE',
  );
  assert.match(message, `tensor '${name}'`);
  assert.match(message, /99840.0?, which overflows f16/);
  assert.equal(place.left(), before);
  const wrong = { ...options(place.calibration), dtype: 'f64' as never };
  assert.match(await rejectsWith(() => prune(place.model, place.out, wrong), 'INVALID_ARGUMENT'), /f64/);
});

test('shards: no larger than asked, an index that says what is where, the same tensors', async () => {
  using place = await workplace();
  await using device = await Device.open();
  const asked = { ...options(place.calibration, { report: 'none' }), device };
  await prune(place.model, place.out, asked);
  const sharded = join(place.path, 'sharded');
  await prune(place.model, sharded, { ...asked, maxShardBytes: 20_000 });
  assert.equal(await tensorsOf(sharded), await tensorsOf(place.out));
  const { metadata, weight_map } = JSON.parse(
    readFileSync(join(sharded, 'model.safetensors.index.json'), 'utf8'),
  );
  const shards = readdirSync(sharded).filter(name => name.endsWith('.safetensors'));
  assert.equal([...new Set(Object.values(weight_map))].sort(), shards);
  let total = 0;
  for (const [i, shard] of shards.entries()) {
    assert.is(
      shard,
      `model-${`${i + 1}`.padStart(5, '0')}-of-${`${shards.length}`.padStart(5, '0')}.safetensors`,
    );
    const header = 8 + Number(readFileSync(join(sharded, shard)).readBigUInt64LE(0));
    const bytes = statSync(join(sharded, shard)).size - header;
    assert.ok(bytes <= 20_000, `${shard}: ${bytes}`);
    total += bytes;
  }
  assert.is(metadata.total_size, total);
});

test('what belongs to the tokenizer comes byte for byte, templates as files and as a field, from links too', async () => {
  using place = await workplace();
  const files: Record<string, string> = {
    'chat_template.jinja': '{{ messages }}\r\n',
    'additional_chat_templates/tool_use.jinja': 'tools',
    'tokenizer.model': '\0\u0001binary',
    'tokenizer_config.json': '{"eos_token":"<end>",   "chat_template": "{{ messages[0].content }}"}',
    'generation_config.json': '{ "eos_token_id" : 256, "temperature": 0.60 }',
    'vocab.json': '{}',
  };
  const blobs = join(place.path, 'blobs');
  mkdirSync(blobs);
  mkdirSync(join(place.model, 'additional_chat_templates'));
  for (const [i, [name, text]] of Object.entries(files).entries()) {
    const path = join(place.model, name);
    // As in the Hugging Face cache.
    if (existsSync(path)) writeFileSync(path, text);
    else {
      writeFileSync(join(blobs, `${i}`), text);
      symlinkSync(join(blobs, `${i}`), path);
    }
  }
  symlinkSync('.', join(place.model, 'itself'));
  symlinkSync('nowhere', join(place.model, 'dangling'));
  await prune(place.model, place.out, options(place.calibration, { report: 'none' }));
  for (const [name, text] of Object.entries(files))
    assert.is(readFileSync(join(place.out, name), 'utf8'), text);
  assert.not(existsSync(join(place.out, 'itself')));
  assert.not(existsSync(join(place.out, 'dangling')));
});

test('buffers of old checkpoints, which are computed and not learnt, stay behind', async () => {
  using place = await workplace();
  const buffer = 'model.layers.5.self_attn.rotary_emb.inv_freq';
  const tensors = await tensorsOf(place.model);
  const checkpoint = await openSafetensors(place.model);
  const sources = await Promise.all(
    checkpoint.names.map(async name => {
      const bytes = await checkpoint.read(name);
      return { ...checkpoint.info(name), bytes: () => bytes };
    }),
  );
  await checkpoint.close();
  const extra = { name: buffer, dtype: 'f32' as const, shape: [4], bytes: () => new Uint8Array(16) };
  await writeSafetensorsFile(join(place.model, 'model.safetensors'), [...sources, extra]);
  await prune(place.model, place.out, options(place.calibration, { report: 'none' }));
  const written = await openSafetensors(place.out);
  assert.is(written.names.length, tensors.size - 2 * 9);
  assert.not(written.names.some(name => name.endsWith('inv_freq')));
  await written.close();
});

const python = process.env.RM_PYTHON;
if (!python) saySkipped('pruned tiny models in transformers: needs RM_PYTHON');
else {
  test('transformers: names, shapes, logits, and generate with and without KV cache, in every dtype, sharded', async () => {
    using place = await workplace();
    await using device = await Device.open();
    for (const dtype of dtypes) {
      const out = join(place.path, dtype);
      await prune(place.model, out, {
        ...options(place.calibration, { report: 'none', maxShardBytes: 30_000 }),
        ...{ device, dtype },
      });
      using model = await Model.load(device, out);
      const ids = [...'The quick brown fox jumps over it.'].map(letter => letter.charCodeAt(0));
      const found = (await logits(model, ids)).logits;
      const file = (name: string) => join(place.path, `${dtype}-${name}`);
      writeFileSync(file('ids.json'), JSON.stringify([ids]));
      const bytes = () => new Uint8Array(found.buffer, found.byteOffset, found.byteLength);
      const tensor = {
        name: 's0.logits',
        dtype: 'f32' as const,
        shape: [ids.length, model.arch.vocab],
        bytes,
      };
      await writeSafetensorsFile(file('logits.safetensors'), [tensor]);
      const { perplexity } = await evaluate(model, [ids]);
      writeFileSync(file('eval.json'), JSON.stringify({ ids: [ids], perplexity }));
      const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
      const script = (name: string) => join(root, 'test', 'python', name);
      for (const args of [
        [script('check_pruned.py'), out, file('ids.json'), file('logits.safetensors'), file('eval.json')],
        [script('check_served.py'), place.model, out, torchNames[dtype]],
      ]) {
        const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8' });
        assert.is(status, 0, `${dtype}\n${stdout}\n${stderr}`);
      }
    }
  });
}

test.run();
