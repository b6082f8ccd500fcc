import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { decodeImage } from '../../model/images/decodeImage.js';
import { imageEmbeddings } from '../../model/images/imageEmbeddings.js';
import { readImageProcessor, readPixels } from '../../model/images/imageProcessor.js';
import { showImages } from '../../model/images/imageTokens.js';
import { openModelSource } from '../../model/source/openModelSource.js';
import { Model } from '../../model/transformer/model.js';
import { maxAbsError, rejectsWith } from '../gpu.js';
import { readGolden, saySkipped, temporaryFolder } from '../support.js';
import { clip, imageFiles, installed } from '../vision.js';

const models = [
  ['projected', 24],
  ['plain', 26],
  ['whole', 24],
  ['siglip', 26],
  ['siglip-whole', 26],
  ['siglip-mean', 26],
  ['vit', 26],
] as const;

if (!installed) saySkipped('image encoders: the package sharp is not installed');
else {
  test('a drawing under the name of a photo is not opened', async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, 'photo.png');
    writeFileSync(path, '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16"/>');
    assert.match(await rejectsWith(() => decodeImage(path), 'DATA_INVALID'), /photo\.png: .*not an image/);
  });

  for (const [name, imageSize] of models) {
    const folder = join(clip, name);
    test(`${name}: pixels are transformers'`, async () => {
      const golden = (await readGolden(join(folder, 'golden.safetensors'))).get('pixels')!;
      const processor = await readImageProcessor(await openModelSource(folder), imageSize);
      const size = golden.values.length / imageFiles.length;
      for (const [i, path] of imageFiles.entries()) {
        const { pixels } = await readPixels(path, processor);
        const error = maxAbsError(pixels, golden.values.slice(i * size, (i + 1) * size));
        assert.ok(error <= 1e-6, `${path}: pixels differ by ${error}`);
      }
    });

    test(`${name}: image embeddings are transformers', of all layers and without one`, async () => {
      const golden = await readGolden(join(folder, 'golden.safetensors'));
      await using device = await Device.open();
      // One of them with its layers offloaded.
      const offload = name.endsWith('whole') && { prefetch: true };
      await using model = await Model.load(device, folder, { images: true, offload });
      const processor = await readImageProcessor(await openModelSource(folder), imageSize);
      using shown = await showImages(model, processor, imageFiles);
      const all = maxAbsError(
        await imageEmbeddings(shown.model, shown.sequences),
        golden.get('embeddings')!.values,
      );
      assert.ok(all <= 1e-4, `embeddings differ by ${all}`);
      const kept = shown.model.withLayers([...golden.get('kept')!.values]);
      const some = maxAbsError(
        await imageEmbeddings(kept, shown.sequences),
        golden.get('kept_embeddings')!.values,
      );
      assert.ok(some <= 1e-4, `embeddings without a layer differ by ${some}`);
    });
  }
}

test.run();
