import { spawnSync } from 'node:child_process';
import { copyFileSync, cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { architectureFromConfig, pruneConfig } from '../../model/families/index.js';
import { imageEmbeddings } from '../../model/images/imageEmbeddings.js';
import { readImageProcessor } from '../../model/images/imageProcessor.js';
import { showImages } from '../../model/images/imageTokens.js';
import { openModelSource } from '../../model/source/openModelSource.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { Model } from '../../model/transformer/model.js';
import { planPrune, prune } from '../../replaceme/index.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { readGolden, saySkipped, temporaryFolder } from '../support.js';
import { clip, imageFiles, images, installed } from '../vision.js';

/** A Python with torch and transformers. */
const { RM_PYTHON: python } = process.env;

let device: Device;
test.before(async () => {
  device = await Device.open();
});
test.after(async () => {
  await device.close();
});

async function embed(folder: string, paths: readonly string[]): Promise<Float32Array> {
  await using model = await Model.load(device, folder, { images: true });
  const processor = await readImageProcessor(await openModelSource(folder), model.arch.vision!.imageSize);
  using shown = await showImages(model, processor, paths);
  return await imageEmbeddings(shown.model, shown.sequences);
}

/** Compares our embeddings with those of transformers, from a pruned folder. */
async function checkInTransformers(pruned: string, scratch: string): Promise<void> {
  if (!python) {
    saySkipped('the pruned encoder in transformers: needs RM_PYTHON');
    return;
  }
  const ours = join(scratch, 'embeddings.json');
  const embeddings = [...(await embed(pruned, imageFiles))];
  writeFileSync(ours, JSON.stringify({ images: imageFiles, embeddings }));
  const script = join(clip, '..', '..', 'python', 'check_clip.py');
  const { status, stdout, stderr } = spawnSync(python, [script, pruned, ours], { encoding: 'utf8' });
  assert.is(status, 0, `${stdout}\n${stderr}`);
}

if (!installed) saySkipped('image encoders: the package sharp is not installed');
else {
  for (const name of ['projected', 'plain', 'whole', 'siglip', 'vit']) {
    test(`${name}: removal alone gives the embeddings that transformers gives without the layer`, async () => {
      using folder = temporaryFolder();
      const to = join(folder.path, 'pruned');
      await prune(join(clip, name), to, {
        ...{ method: 'plain', remove: [1], calibration: [images], device },
        // The card knows what the model reads without measurements too.
        report: 'none',
      });
      assert.match(
        readFileSync(join(to, 'README.md'), 'utf8'),
        /^pipeline_tag: "image-feature-extraction"$/m,
      );
      const golden = await readGolden(join(clip, name, 'golden.safetensors'));
      const error = maxAbsError(await embed(to, imageFiles), golden.get('kept_embeddings')!.values);
      assert.ok(error <= 1e-4, `embeddings differ by ${error}`);
    });
  }

  for (const method of ['replaceme-ls', 'refit']) {
    test(`${method} on images: nearer than removal alone, and the same embeddings in transformers`, async () => {
      using folder = temporaryFolder();
      const to = join(folder.path, 'pruned');
      const report = await prune(join(clip, 'whole'), to, {
        method,
        layers: 1,
        calibration: [images],
        device,
      });
      assert.is(report.calibration.tokens, 60);
      assert.ok(report.verification.maxLogitDifference <= 1e-5);
      const schema = JSON.parse(
        readFileSync(join(clip, '..', '..', '..', 'docs', 'report.schema.json'), 'utf8'),
      );
      const ajv = new Ajv2020({ strict: true, allowUnionTypes: true }).addSchema(schema, 'report');
      const valid = ajv.getSchema('report#/$defs/PruneReport')!;
      assert.ok(
        valid(JSON.parse(readFileSync(join(to, 'report.json'), 'utf8'))),
        JSON.stringify(valid.errors),
      );
      const { models, origin, images: count } = report.imageEvaluation!;
      assert.equal([origin, count], ['calibration', 6]);
      const [plain, result] = models;
      assert.ok(result!.relativeError < plain!.relativeError, JSON.stringify(models));
      assert.ok(result!.cosine > plain!.cosine, JSON.stringify(models));
      const config = JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'));
      assert.equal([config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers], [3, 2]);
      await checkInTransformers(to, folder.path);
    });
  }

  test('a SigLIP with both towers: nearer than removal alone, and the same embeddings in transformers', async () => {
    using folder = temporaryFolder();
    const to = join(folder.path, 'pruned');
    const options = { method: 'replaceme-ls', layers: 1, calibration: [images], device };
    const { imageEvaluation } = await prune(join(clip, 'siglip-whole'), to, options);
    const [plain, result] = imageEvaluation!.models;
    assert.ok(result!.relativeError < plain!.relativeError, JSON.stringify(imageEvaluation));
    await checkInTransformers(to, folder.path);
  });

  test('dimensions that config.json leaves out are the base model, and the number of layers that stay is written', () => {
    const config = { model_type: 'siglip', vision_config: { image_size: 32 }, text_config: {} };
    const arch = architectureFromConfig(config, 'config.json');
    assert.equal([arch.layers, arch.hidden, arch.heads, arch.intermediate], [12, 768, 12, 3072]);
    const cut = pruneConfig(config, [0, 1, 2, 5]);
    assert.equal(cut.vision_config, { num_hidden_layers: 4, image_size: 32 });
  });

  test('an image is never cut, and planned whole', async () => {
    const planned = async (sequenceLength: number) => {
      const options = { layers: 1, method: 'refit', calibration: [images], batchTokens: 1, device };
      return (await planPrune(join(clip, 'whole'), { ...options, sequenceLength })).memory;
    };
    assert.equal(await planned(1), await planned(1024));
  });

  test('what is not measured on images and what is no image is refused', async () => {
    using folder = temporaryFolder();
    const from = join(clip, 'projected');
    const to = join(folder.path, 'pruned');
    const refused = (options: Parameters<typeof prune>[2], code: Parameters<typeof rejectsWith>[1]) =>
      rejectsWith(() => prune(from, to, { layers: 1, method: 'replaceme-ls', device, ...options }), code);
    assert.match(await refused({}, 'INVALID_ARGUMENT'), /no images are given/);
    assert.match(await refused({ calibration: [images], mask: 0.1 }, 'INVALID_ARGUMENT'), /without `mask`/);
    assert.match(
      await refused({ calibration: [images], select: 'perplexity' }, 'INVALID_ARGUMENT'),
      /reads images/,
    );
    await refused({ calibration: [images], method: 'prune-and-comp' }, 'INVALID_ARGUMENT');
    assert.match(
      await refused({ calibration: [join(folder.path, 'none')] }, 'DATA_INVALID'),
      /does not exist/,
    );
    const empty = join(folder.path, 'empty');
    mkdirSync(empty);
    assert.match(await refused({ calibration: [empty] }, 'DATA_INVALID'), /has no JPEG/);
    for (const [name, bytes] of [
      ['text.png', Buffer.from('no image')],
      ['cut.jpg', readFileSync(join(images, 'b-tall.jpg')).subarray(0, 900)],
      ['cut.png', readFileSync(join(images, 'a-wide.png')).subarray(0, 2000)],
    ] as const) {
      const path = join(folder.path, name);
      writeFileSync(path, bytes);
      assert.match(await refused({ calibration: [path] }, 'DATA_INVALID'), name);
    }
    await rejectsWith(() => Model.load(device, from), 'UNSUPPORTED_FAMILY');
    assert.match(await rejectsWith(() => loadTokenizer(from), 'UNSUPPORTED_FAMILY'), /reads no text/);
  });

  test('config files that contradict each other or make no sense are refused', async () => {
    using folder = temporaryFolder();
    const from = join(folder.path, 'model');
    cpSync(join(clip, 'projected'), from, { recursive: true });
    const change = (name: string, changes: Record<string, unknown>) => {
      copyFileSync(join(clip, 'projected', name), join(from, name));
      const json = JSON.parse(readFileSync(join(from, name), 'utf8'));
      writeFileSync(join(from, name), JSON.stringify({ ...json, ...changes }));
    };
    const refused = (code: Parameters<typeof rejectsWith>[1]) =>
      rejectsWith(() => embed(from, imageFiles), code);
    const sizes = { crop_size: { height: 20, width: 24 } };
    change('preprocessor_config.json', sizes);
    assert.match(await refused('CONFIG_INVALID'), /makes images of 24x20, but config.json says 24x24/);
    change('preprocessor_config.json', { resample: 1 });
    assert.match(await refused('UNSUPPORTED_FAMILY'), /"resample" is 1/);
    change('preprocessor_config.json', { image_std: [0, 1, 1] });
    assert.match(await refused('CONFIG_INVALID'), /"image_std"/);
    change('preprocessor_config.json', {});
    for (const [changes, code, says] of [
      [{ patch_size: 30 }, 'CONFIG_INVALID', /"patch_size" 30 is larger/],
      [{ image_size: 32 }, 'CHECKPOINT_CORRUPT', /position_embedding/],
      [{ num_attention_heads: 5 }, 'CONFIG_INVALID', /num_attention_heads 5/],
      [{ num_channels: 1 }, 'UNSUPPORTED_FAMILY', /"num_channels" is 1/],
      [{ hidden_act: 'mish' }, 'UNSUPPORTED_FAMILY', /"hidden_act" is "mish"/],
      [{ projection_dim: 13 }, 'CHECKPOINT_CORRUPT', /visual_projection/],
    ] as const) {
      change('config.json', changes);
      assert.match(await refused(code), says);
    }
  });

  test('whole numbers that old checkpoints hold beside the weights are no hindrance', async () => {
    using folder = temporaryFolder();
    const from = join(folder.path, 'model');
    cpSync(join(clip, 'projected'), from, { recursive: true });
    const path = join(from, 'model.safetensors');
    const bytes = readFileSync(path);
    const length = Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + length));
    const end = bytes.length - 8 - length;
    header['vision_model.embeddings.position_ids'] = {
      dtype: 'I64',
      shape: [1, 10],
      data_offsets: [end, end + 80],
    };
    const text = Buffer.from(JSON.stringify(header));
    const size = Buffer.alloc(8);
    size.writeBigUInt64LE(BigInt(text.length));
    const ids = Buffer.from(BigInt64Array.from({ length: 10 }, (_, i) => BigInt(i)).buffer);
    writeFileSync(path, Buffer.concat([size, text, bytes.subarray(8 + length), ids]));
    const to = join(folder.path, 'pruned');
    await prune(from, to, { method: 'plain', remove: [1], calibration: [images], device });
    const golden = await readGolden(join(clip, 'projected', 'golden.safetensors'));
    const error = maxAbsError(await embed(to, imageFiles), golden.get('kept_embeddings')!.values);
    assert.ok(error <= 1e-4, `embeddings differ by ${error}`);
  });
}

test.run();
