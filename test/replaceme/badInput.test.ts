import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, type ErrorCode, RmError } from '../../engine/index.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped } from '../support.js';
import { options as reported, workplace } from './workplace.js';

/** Nothing is measured for a report. */
const options = (calibration: string, more: PruneOptions = {}): PruneOptions =>
  reported(calibration, { report: 'none', ...more });

/** Every case goes through the whole of `prune`: a typed error, nothing written, nothing left on the device. */
let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Changes the header of a folder's model.safetensors, keeping its length. */
function changeHeader(folder: string, change: (header: Header) => void): void {
  const path = join(folder, 'model.safetensors');
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Header;
  change(header);
  const text = JSON.stringify(header).padEnd(length);
  assert.is(text.length, length, 'the changed header is not longer');
  bytes.write(text, 8);
  writeFileSync(path, bytes);
}

function changeConfig(folder: string, changes: Record<string, unknown>): void {
  const path = join(folder, 'config.json');
  const config = { ...(JSON.parse(readFileSync(path, 'utf8')) as object), ...changes };
  writeFileSync(path, JSON.stringify(config));
}

const norm = 'model.layers.2.input_layernorm.weight';

const damages: [what: string, damage: (folder: string) => void, code: ErrorCode, words: RegExp][] = [
  [
    'the weights are missing',
    folder => rmSync(join(folder, 'model.safetensors')),
    'CHECKPOINT_MISSING',
    /has no model\.safetensors or its index/,
  ],
  [
    'the weights are truncated',
    folder => {
      const path = join(folder, 'model.safetensors');
      writeFileSync(path, readFileSync(path).subarray(0, -100));
    },
    'CHECKPOINT_CORRUPT',
    /truncated/,
  ],
  [
    'a header of 2^63 bytes',
    folder => {
      const path = join(folder, 'model.safetensors');
      const bytes = readFileSync(path);
      bytes.writeBigUInt64LE(2n ** 63n);
      writeFileSync(path, bytes);
    },
    'CHECKPOINT_CORRUPT',
    /9223372036854775808 bytes/,
  ],
  [
    'overlapping offsets',
    folder =>
      changeHeader(folder, header => {
        const [begin, end] = header[norm]!.data_offsets;
        header[norm]!.data_offsets = [begin - 8, end - 8];
      }),
    'CHECKPOINT_CORRUPT',
    /overlaps the tensor before it by 8 bytes/,
  ],
  [
    'offsets beyond the file',
    folder =>
      changeHeader(folder, header => {
        const last = Object.values(header).reduce((a, b) =>
          (b.data_offsets?.[1] ?? 0) > (a.data_offsets?.[1] ?? 0) ? b : a,
        );
        last.shape[0]! += 1;
        last.data_offsets[1] += 2 * (last.shape[1] ?? 1);
      }),
    'CHECKPOINT_CORRUPT',
    /ends at byte \d+, but the file has only/,
  ],
  [
    'an index naming a missing shard',
    folder => {
      rmSync(join(folder, 'model.safetensors'));
      const index = { weight_map: { [norm]: 'model-00001-of-00002.safetensors' } };
      writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
    },
    'CHECKPOINT_MISSING',
    /model-00001-of-00002\.safetensors does not exist \(named by .*index\.json\)$/,
  ],
  [
    'weights of whole numbers',
    folder =>
      changeHeader(folder, header => {
        header[norm]!.dtype = 'U32';
        header[norm]!.shape = [16];
      }),
    'UNSUPPORTED_DTYPE',
    /input_layernorm\.weight holds integers/,
  ],
  [
    'a config without a field',
    folder => changeConfig(folder, { rms_norm_eps: undefined }),
    'CONFIG_INVALID',
    /config\.json: "rms_norm_eps" is missing/,
  ],
  [
    'an unknown model_type',
    folder => changeConfig(folder, { model_type: 'gpt2' }),
    'UNSUPPORTED_FAMILY',
    /"gpt2"; supported are llama/,
  ],
  [
    'a config that contradicts the shapes',
    folder => changeConfig(folder, { intermediate_size: 64 }),
    'CHECKPOINT_CORRUPT',
    /mlp\.gate_proj\.weight has shape \[48,32\], but config\.json implies \[64,32\]/,
  ],
  [
    'a config with more layers than the weights',
    folder => changeConfig(folder, { num_hidden_layers: 7 }),
    'CHECKPOINT_CORRUPT',
    /model\.layers\.6\..* is missing/,
  ],
  [
    'no tokenizer',
    folder => rmSync(join(folder, 'tokenizer.json')),
    'CHECKPOINT_MISSING',
    /has no tokenizer\.json: there is no tokenizer of any kind/,
  ],
];

for (const [what, damage, code, words] of damages) {
  test(`prune: ${what}`, async () => {
    using place = await workplace();
    damage(place.model);
    const work = () => prune(place.model, place.out, { ...options(place.calibration), device });
    assert.match(await rejectsWith(work, code), words);
    assert.equal(place.left(), ['calibration.txt', 'model']);
    assert.is(device.memory.liveBytes, 0);
  });
}

const texts: [name: string, content: string | Uint8Array, code: ErrorCode, words: RegExp][] = [
  ['empty.txt', '', 'DATA_INVALID', /empty\.txt: the file is empty/],
  ['blank.txt', '\n \n\n', 'DATA_INVALID', /blank\.txt: holds no document/],
  ['bad.jsonl', '{"text":"a"}\n\n{"text": oops}\n', 'DATA_INVALID', /bad\.jsonl:3: not JSON/],
  ['field.jsonl', '{"body":"a"}\n', 'DATA_INVALID', /field\.jsonl:1: has no field/],
  ['binary.txt', Uint8Array.of(1, 2, 255, 254), 'DATA_INVALID', /binary\.txt:1: not UTF-8/],
  ['binary.jsonl', Uint8Array.of(1, 2, 255, 254), 'DATA_INVALID', /binary\.jsonl:1: not UTF-8/],
  ['binary.parquet', Uint8Array.of(1, 2, 255, 254), 'DATA_INVALID', /cannot be read as parquet/],
  ['talk.jsonl', '{"messages":[{"role":"user","content":"a"}]}', 'CONFIG_INVALID', /no chat template/],
];

for (const [name, content, code, words] of texts) {
  test(`prune: calibration from ${name}`, async () => {
    using place = await workplace();
    const path = join(place.path, name);
    writeFileSync(path, content);
    const work = () => prune(place.model, place.out, { ...options(path), device });
    assert.match(await rejectsWith(work, code), words);
    assert.equal(place.left(), [name, 'calibration.txt', 'model'].sort());
    assert.is(device.memory.liveBytes, 0);
  });
}

test('prune: calibration from a folder', async () => {
  using place = await workplace();
  const folder = join(place.path, 'folder');
  mkdirSync(folder);
  await rejectsWith(() => prune(place.model, place.out, { ...options(folder), device }), 'DATA_INVALID');
});

test("prune: the tokenizer's vocabulary is larger than the model's", async () => {
  using place = await workplace({ config: { vocab_size: 100 } });
  const work = () => prune(place.model, place.out, { ...options(place.calibration), device });
  assert.match(
    await rejectsWith(work, 'CONFIG_INVALID'),
    /tokenizer\.json: gives the token .* the id \d+, but the model's embedding has 100 rows/,
  );
  assert.equal(place.left(), ['calibration.txt', 'model']);
  assert.is(device.memory.liveBytes, 0);
});

test('prune: finite weights whose activations overflow', async () => {
  using place = await workplace({
    values: (name, values) => name.includes('down_proj') && values.fill(3e38),
  });
  for (const more of [{}, { window: 1 }, { window: 1, method: 'plain' }, { method: 'plain' }]) {
    const work = () => prune(place.model, place.out, { ...reported(place.calibration, more), device });
    await rejectsWith(work, 'NOT_FINITE');
    assert.equal(place.left(), ['calibration.txt', 'model']);
    assert.is(device.memory.liveBytes, 0);
  }
});

test('prune: texts longer than the context are cut to it', async () => {
  using place = await workplace();
  const request = { ...options(place.calibration), sequenceLength: 5000, device };
  const { calibration } = await prune(place.model, place.out, request);
  assert.equal(
    [calibration.tokens, calibration.sequences],
    [1024, 8],
    "eight sequences of the context's 128",
  );
});

test('prune: the smallest sequences and batches', async () => {
  using place = await workplace();
  const request = options(place.calibration, {
    sequenceLength: 1,
    batchTokens: 1,
    tokens: 60,
    window: 0,
    alpha: 1,
  });
  const { calibration, verification } = await prune(place.model, place.out, { ...request, device });
  assert.equal([calibration.tokens, calibration.sequences], [60, 60]);
  assert.is(verification.maxLogitDifference, 0);
  for (const wrong of [{ tokens: 0 }, { batchTokens: Number.NaN }, { sequenceLength: -1 }]) {
    const work = () => prune(place.model, `${place.out}2`, { ...request, ...wrong, device });
    await rejectsWith(work, 'INVALID_ARGUMENT');
  }
});

test('prune: whatever the memory limit, either it succeeds or nothing is written and nothing leaks', async () => {
  using place = await workplace();
  const outcomes: string[] = [];
  for (const memoryLimit of [50e3, 130e3, 170e3, 220e3, 300e3, 450e3, 20e6]) {
    await using small = await Device.open({ memoryLimit });
    try {
      await prune(place.model, place.out, { ...reported(place.calibration, { tokens: 256 }), device: small });
      outcomes.push('done');
      rmSync(place.out, { recursive: true });
    } catch (error) {
      assert.instance(error, RmError, String(error));
      assert.is((error as RmError).code, 'OUT_OF_MEMORY', (error as RmError).message);
      outcomes.push('no room');
    }
    assert.is(small.memory.liveBytes, 0, `at ${memoryLimit} bytes`);
    assert.equal(place.left(), ['calibration.txt', 'model']);
  }
  assert.is(outcomes[0], 'no room');
  assert.is(outcomes.at(-1), 'done');
});

test('prune: the disk is full while writing', async () => {
  // Every write to this Linux device fails as on a full disk.
  if (!existsSync('/dev/full') || !statSync('/dev/full').isCharacterDevice()) {
    saySkipped('writing to a full disk: no /dev/full');
    return;
  }
  using place = await workplace();
  const request = options(place.calibration, {
    device,
    onProgress: ({ phase }) => {
      const temporary = place.left().find(name => name.startsWith('.rm-engine-'));
      if (phase !== 'write' || !temporary) return;
      const config = join(place.path, temporary, 'config.json');
      if (!existsSync(config)) symlinkSync('/dev/full', config);
    },
  });
  const message = await rejectsWith(() => prune(place.model, place.out, request), 'OUTPUT_FAILED');
  assert.match(message, 'the disk is full');
  assert.equal(place.left(), ['calibration.txt', 'model']);
  assert.is(device.memory.liveBytes, 0);
});

test('prune: two at once into the same folder: one is written, the other refused', async () => {
  using place = await workplace();
  const request = options(place.calibration, { window: 1, method: 'plain' });
  const both = await Promise.allSettled([1, 2].map(() => prune(place.model, place.out, request)));
  const failed = both.filter(result => result.status === 'rejected');
  assert.is(failed.length, 1);
  await rejectsWith(() => Promise.reject(failed[0]!.reason), 'OUTPUT_EXISTS');
  assert.equal(place.left(), ['calibration.txt', 'model', 'pruned']);
});

test('prune: a model that was pruned before, links and what is no file', async () => {
  using place = await workplace();
  writeFileSync(join(place.model, 'README.md'), 'the base model');
  symlinkSync('nowhere', join(place.model, 'broken.txt'));
  symlinkSync('nowhere', join(place.model, 'broken.safetensors'));
  symlinkSync('tokenizer.json', join(place.model, 'NOTICE'));
  const request = { ...options(place.calibration, { layers: 1, window: 1, method: 'plain' }), device };
  const again = join(place.path, 'again');
  await prune(place.model, place.out, request);
  await prune(place.out, again, request);
  assert.is(readFileSync(join(again, 'README.base.base.md'), 'utf8'), 'the base model');
  assert.match(readFileSync(join(again, 'README.base.md'), 'utf8'), '# pruned');
  assert.match(readFileSync(join(again, 'README.md'), 'utf8'), '# again');
  const names = readdirSync(again);
  assert.ok(names.includes('NOTICE') && !names.some(name => name.startsWith('broken')));
});

test.run();
