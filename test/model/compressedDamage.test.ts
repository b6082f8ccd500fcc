import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { ErrorCode } from '../../engine/errors.js';
import { Device } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { inspectModel } from '../../model/source/inspectModel.js';
import { rejectsWith } from '../gpu.js';
import { type Entry, readEntries, writeEntries } from '../safetensorsEntries.js';
import { dataPath, temporaryFolder } from '../support.js';

// Damaged compressed weights, and configurations that cannot be read. Takes about 2 s.

const folder = temporaryFolder();
let device: Device;
let count = 0;

test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
  folder[Symbol.dispose]();
});

type Settings = Record<string, unknown>;

/** A copy of a model with other tensors or another configuration. */
function changed(
  name: string,
  change: (tensors: Map<string, Entry>, settings: Settings, config: Settings) => void,
): string {
  const path = join(folder.path, `${count++}`);
  mkdirSync(path);
  const from = dataPath('compressed', name);
  const config = JSON.parse(readFileSync(join(from, 'config.json'), 'utf8')) as Settings;
  const tensors = readEntries(join(from, 'model.safetensors'));
  change(tensors, config.quantization_config as Settings, config);
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  writeEntries(join(path, 'model.safetensors'), tensors);
  return path;
}

const q = 'model.layers.1.self_attn.q_proj';

const load = async (path: string): Promise<void> => {
  await using _model = await Model.load(device, path);
};

/** Loading fails with a message that names the tensor. */
async function refused(
  path: string,
  tensor: string,
  pattern: RegExp,
  code: ErrorCode = 'CHECKPOINT_CORRUPT',
) {
  const message = await rejectsWith(() => load(path), code);
  assert.ok(message.includes(tensor), message);
  assert.match(message, pattern);
}

for (const [name, part] of [
  ['fp8-blocks', 'weight_scale_inv'],
  ['float8', 'weight_scale'],
  ['packed', 'weight_scale'],
  ['packed', 'weight_shape'],
  ['packed-zeros', 'weight_zero_point'],
  ['awq', 'qzeros'],
  ['gptq', 'scales'],
] as const) {
  test(`${name}: ${part} is missing`, () =>
    refused(
      changed(name, tensors => tensors.delete(`${q}.${part}`)),
      `${q}.${part}`,
      /is missing/,
    ));

  test(`${name}: ${part} has another shape`, () => {
    const path = changed(name, tensors => {
      const { shape, ...rest } = tensors.get(`${q}.${part}`)!;
      tensors.set(`${q}.${part}`, { ...rest, shape: [1, ...shape].reverse() });
    });
    return refused(path, `${q}.${part}`, /has shape|holds/);
  });
}

const nan: Readonly<Record<string, number[]>> = {
  F32: [0, 0, 0xc0, 0x7f],
  BF16: [0xc0, 0x7f],
  F16: [0, 0x7e],
  U8: [255],
  F8_E4M3: [127],
};

for (const [name, part] of [
  ['fp8-blocks', 'weight_scale_inv'],
  ['mxfp4', 'weight_scale'],
  ['nvfp4', 'weight_scale'],
  ['nvfp4', 'weight_global_scale'],
  ['packed', 'weight_scale'],
  ['awq', 'scales'],
  ['gptq-order', 'scales'],
] as const) {
  test(`${name}: ${part} holds NaN`, () => {
    const path = changed(name, tensors => {
      const { dtype, bytes } = tensors.get(`${q}.${part}`)!;
      const copy = Buffer.from(bytes);
      copy.set(nan[dtype]!, 0);
      tensors.set(`${q}.${part}`, { ...tensors.get(`${q}.${part}`)!, bytes: copy });
    });
    return refused(path, `${q}.${part}`, /holds NaN/, 'NOT_FINITE');
  });
}

test('a code that is NaN is found in the weights', () => {
  const path = changed('float8', tensors => {
    const entry = tensors.get(`${q}.weight`)!;
    const bytes = Buffer.from(entry.bytes);
    bytes[7] = 127;
    tensors.set(`${q}.weight`, { ...entry, bytes });
  });
  return refused(path, `${q}.weight`, /has 1 NaN/, 'NOT_FINITE');
});

test('columns in a group that is none', () => {
  const path = changed('gptq-order', tensors => {
    const entry = tensors.get(`${q}.g_idx`)!;
    const bytes = Buffer.from(entry.bytes);
    bytes.writeInt32LE(9, 40);
    tensors.set(`${q}.g_idx`, { ...entry, bytes });
  });
  return refused(path, `${q}.g_idx`, /group 9, and there are 2/);
});

test('weights and configuration that contradict each other', async () => {
  const whole = changed('float8', (_, settings) => {
    settings.ignore = ['lm_head', q];
  });
  await refused(whole, `${q}.weight`, /leaves .* whole/);
  const plain = changed('float8', tensors => {
    tensors.set(`${q}.weight`, { dtype: 'BF16', shape: [64, 64], bytes: Buffer.alloc(8192) });
  });
  await refused(plain, `${q}.weight`, /BF16, and yet it has a weight_scale/);
  const bits = changed('gptq', (_, settings) => {
    settings.bits = 8;
  });
  await refused(bits, '.qzeros', /has shape/);
});

test('a module that is left whole is read as it is stored, also with a scale that is left over', async () => {
  const path = changed('float8', (tensors, settings) => {
    settings.ignore = ['lm_head', q];
    tensors.set(`${q}.weight`, { dtype: 'BF16', shape: [64, 64], bytes: Buffer.alloc(8192) });
  });
  await load(path);
  assert.equal((await inspectModel(path)).unusedTensors, []);
});

/** The message for a config.json alone. */
function configRefused(settings: Settings, code: ErrorCode = 'UNSUPPORTED_FAMILY'): Promise<string> {
  const { quantization_config: _, ...config } = JSON.parse(
    readFileSync(dataPath('compressed', 'gptq', 'config.json'), 'utf8'),
  );
  const path = join(folder.path, `${count++}.json`);
  writeFileSync(path, JSON.stringify({ ...config, ...settings }));
  return rejectsWith(() => inspectModel(path), code);
}

test('methods that cannot be read are refused by name, with what to do', async () => {
  const of = (method: string, others: Settings = {}) =>
    configRefused({ quantization_config: { quant_method: method, ...others } });
  assert.match(await of('bitsandbytes', { load_in_4bit: true }), /quantised by bitsandbytes/);
  assert.match(await configRefused({ quantization_config: { load_in_8bit: true } }), /bitsandbytes/);
  for (const method of [
    'hqq',
    'eetq',
    'aqlm',
    'torchao',
    'bitnet',
    'quip',
    'spqr',
    'vptq',
    'higgs',
    'quanto',
  ]) {
    assert.match(await of(method), new RegExp(`quantised by ${method}`));
  }
  assert.match(await of('awq', { bits: 4, version: 'gemv' }), /gemv/);
  assert.match(await of('awq', { bits: 8 }), /"quantization_config.bits" is 8/);
  assert.match(await of('gptq', { bits: 5 }), /is 5; 2, 3, 4 and 8/);
  assert.match(await of('gptq', { bits: 4, checkpoint_format: 'marlin' }), /marlin/);
  assert.match(await of('compressed-tensors', { format: 'marlin-24' }), /marlin-24/);
  const group = (weights: Settings) => ({
    format: 'pack-quantized',
    config_groups: { group_0: { weights } },
  });
  assert.match(await of('compressed-tensors', group({ num_bits: 9 })), /num_bits" is 9/);
  assert.match(await of('compressed-tensors', group({ num_bits: 4, strategy: 'token' })), /token/);
  const sparse = { ...group({ num_bits: 8 }), sparsity_config: { format: 'sparse-24-bitmask' } };
  assert.match(await of('compressed-tensors', sparse), /sparse-24-bitmask/);
});

test('fields that say nothing are named', async () => {
  assert.match(await configRefused({ quantization_config: { bits: 4 } }, 'CONFIG_INVALID'), /quant_method/);
  const gptq = { quant_method: 'gptq' };
  assert.match(await configRefused({ quantization_config: gptq }, 'CONFIG_INVALID'), /bits" is missing/);
  assert.match(await configRefused({ quantization_config: 4 }, 'CONFIG_INVALID'), /should be an object/);
  const fp8 = { quant_method: 'fp8', weight_block_size: [128] };
  assert.match(await configRefused({ quantization_config: fp8 }, 'CONFIG_INVALID'), /weight_block_size/);
});

test('a config.json alone says that it would work, under either name of the field', async () => {
  const path = join(folder.path, 'alone.json');
  copyFileSync(dataPath('compressed', 'packed', 'config.json'), path);
  assert.equal((await inspectModel(path)).compressed, { method: 'compressed-tensors, int4', dtype: 'bf16' });
  const { quantization_config, ...config } = JSON.parse(readFileSync(path, 'utf8'));
  writeFileSync(path, JSON.stringify({ ...config, compression_config: quantization_config }));
  assert.equal((await inspectModel(path)).compressed?.method, 'compressed-tensors, int4');
});

test.run();
