import { checkArguments, ensure, whole } from '../../engine/index.js';
import { aSource } from '../arguments/forms.js';
import type { ModelSource } from '../checkpoint/modelSource.js';
import { jsonOf } from '../checkpoint/modelSource.js';
import { ConfigReader } from '../families/configReader.js';
import { isRecord } from '../files/jsonFile.js';
import { decodeImage, type RgbImage } from './decodeImage.js';
import { resample, resampleFilters } from './resample.js';

/** The steps of preprocessor_config.json that turn pictures of any size into pixels of one size. */
export interface ImageProcessor {
  /** Resize the shorter side to this length, or to this width and height; null: do not resize. */
  readonly resize: { readonly shortest: number } | { readonly width: number; readonly height: number } | null;
  /** Pillow's number of the resampling filter. */
  readonly filter: number;
  /** Crop to this size around the centre, padding smaller images with black; null: do not crop. */
  readonly crop: { readonly width: number; readonly height: number } | null;
  /** Factor applied to the bytes. */
  readonly rescale: number;
  /** Per channel, applied after rescaling. */
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** What an image processor of transformers does where its file does not say. */
interface Defaults {
  readonly filter: number;
  readonly crops: boolean;
  /** A `size` that is not stated, or a single number: the shorter side, or both sides. */
  readonly size: 'shortest' | 'square';
  readonly number: 'shortest' | 'square';
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** Values of OpenAI's CLIP. */
const clip: Defaults = {
  filter: 3,
  crops: true,
  size: 'shortest',
  number: 'shortest',
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
};
const halves = { crops: false, size: 'square', mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] } as const;

/** By the beginning of `image_processor_type`. */
const processors: Readonly<Record<string, Defaults>> = {
  CLIP: clip,
  Siglip: { ...halves, filter: 3, number: 'shortest' },
  ViT: { ...halves, filter: 2, number: 'square' },
};

/** The processor of each `model_type`, where the file does not name one; of the others, CLIP's. */
const usual: Readonly<Record<string, string>> = {
  siglip: 'Siglip',
  siglip_vision_model: 'Siglip',
  vit: 'ViT',
};

/** The fields of the image processor, beside the model or within its processor_config.json, as transformers 5 may write it. */
async function processorConfig(source: ModelSource): Promise<ConfigReader> {
  for (const [name, field] of [
    ['preprocessor_config.json', undefined],
    ['processor_config.json', 'image_processor'],
  ] as const) {
    const json = await jsonOf(source, name);
    if (json === undefined) continue;
    const config = new ConfigReader(isRecord(json) ? json : {}, source.nameOf(name));
    if (!isRecord(json)) throw config.invalid('size', 'cannot be read: the file is not a JSON object');
    if (field === undefined) return config;
    if (config.has(field)) return config.object(field);
  }
  return new ConfigReader({}, source.nameOf('preprocessor_config.json'));
}

/** @throws RmError UNSUPPORTED_FAMILY for a processor with other steps. */
async function defaultsOf(source: ModelSource, config: ConfigReader): Promise<Defaults> {
  const json = await jsonOf(source, 'config.json');
  const family = isRecord(json) && typeof json.model_type === 'string' ? json.model_type : '';
  const own = Object.hasOwn(usual, family) ? usual[family]! : 'CLIP';
  const field = config.has('image_processor_type') ? 'image_processor_type' : 'feature_extractor_type';
  const type = config.text(field, `${own}ImageProcessor`);
  const kind = type.replace(/(ImageProcessor|FeatureExtractor)(Fast|Pil)?$/, '');
  if (Object.hasOwn(processors, kind)) return processors[kind]!;
  throw config.unsupported(
    field,
    `is ${JSON.stringify(type)}; supported are ${Object.keys(processors)
      .map(name => `${name}ImageProcessor`)
      .join(', ')}`,
    'Use the preprocessor_config.json that the model was published with.',
  );
}

/**
 * Reads a vision encoder's preprocessor_config.json as transformers 4 or 5 writes it; without the file, returns the settings
 * of the family's first models for `imageSize`.
 *
 * @throws RmError CONFIG_INVALID naming the field, UNSUPPORTED_FAMILY for another resampling filter or processor.
 */
export async function readImageProcessor(source: ModelSource, imageSize: number): Promise<ImageProcessor> {
  checkArguments('readImageProcessor', { source, imageSize }, { source: aSource, imageSize: whole(1) });
  const config = await processorConfig(source);
  const defaults = await defaultsOf(source, config);
  const resize = config.flag('do_resize', true) ? readSize(config, 'size', imageSize, defaults) : null;
  const filter = config.get('resample') ?? defaults.filter;
  if (typeof filter !== 'number' || !resampleFilters.includes(filter)) {
    throw config.unsupported(
      'resample',
      `is ${JSON.stringify(filter)}; supported are 2 (bilinear) and 3 (bicubic)`,
      'Use the preprocessor_config.json that the model was published with.',
    );
  }
  const crops = config.flag('do_center_crop', defaults.crops);
  const square = { size: 'square', number: 'square' } as const;
  const crop = crops ? readSize(config, 'crop_size', imageSize, square) : null;
  if (crop && 'shortest' in crop) {
    throw config.invalid('crop_size', 'has no height and width');
  }
  const normalise = config.flag('do_normalize', true);
  return {
    resize,
    filter,
    crop,
    rescale: config.flag('do_rescale', true) ? config.positive('rescale_factor', 1 / 255) : 1,
    mean: normalise ? channels(config, 'image_mean', defaults.mean) : [0, 0, 0],
    std: normalise ? channels(config, 'image_std', defaults.std) : [1, 1, 1],
  };
}

function channels(config: ConfigReader, field: string, fallback: readonly number[]): readonly number[] {
  return config.get(field) === undefined ? fallback : config.positives(field, 3);
}

function readSize(
  config: ConfigReader,
  field: 'size' | 'crop_size',
  imageSize: number,
  { size, number }: Pick<Defaults, 'size' | 'number'>,
): { shortest: number } | { width: number; height: number } {
  const value = config.get(field);
  if (!isRecord(value)) {
    const side = config.count(field, imageSize);
    const form = value === undefined ? size : number;
    return form === 'shortest' ? { shortest: side } : { width: side, height: side };
  }
  const stated = config.object(field);
  if (stated.has('shortest_edge')) return { shortest: stated.count('shortest_edge') };
  return { width: stated.count('width'), height: stated.count('height') };
}

/**
 * Reads an image file as the model's input pixels, f32 [3, height, width], equal to those of transformers on Pillow.
 *
 * @throws RmError DATA_INVALID for a file that is not an image.
 */
export async function readPixels(
  path: string,
  processor: ImageProcessor,
): Promise<{ width: number; height: number; pixels: Float32Array }> {
  const image = cropped(resized(await decodeImage(path), processor), processor);
  const { width, height, data } = image;
  const area = width * height;
  const pixels = new Float32Array(3 * area);
  for (let c = 0; c < 3; c++) {
    // numpy's steps: multiply in f64, round, then apply mean and deviation in f32.
    const [mean, std] = [Math.fround(processor.mean[c]!), Math.fround(processor.std[c]!)];
    for (let i = 0; i < area; i++) {
      const value = Math.fround(data[3 * i + c]! * processor.rescale);
      pixels[c * area + i] = Math.fround(value - mean) / std;
    }
  }
  return { width, height, pixels };
}

function resized(image: RgbImage, { resize, filter }: ImageProcessor): RgbImage {
  if (!resize) return image;
  if (!('shortest' in resize)) return resample(image, resize.width, resize.height, filter);
  const { width, height } = image;
  const longer = Math.trunc((resize.shortest * Math.max(width, height)) / Math.min(width, height));
  // A strip one pixel wide would grow to gigabytes.
  ensure(
    longer * resize.shortest <= 1 << 28,
    `an image of ${width}x${height} pixels is too narrow to be resized to ${resize.shortest}`,
    'Leave this image out.',
  );
  return width <= height
    ? resample(image, resize.shortest, longer, filter)
    : resample(image, longer, resize.shortest, filter);
}

function cropped(image: RgbImage, { crop }: ImageProcessor): RgbImage {
  if (!crop) return image;
  const { width, height } = crop;
  const left = offset(image.width, width);
  const top = offset(image.height, height);
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < height; y++) {
    const from = y + top;
    if (from < 0 || from >= image.height) continue;
    for (let x = Math.max(0, -left); x < Math.min(width, image.width - left); x++) {
      const at = 3 * (from * image.width + x + left);
      data.set(image.data.subarray(at, at + 3), 3 * (y * width + x));
    }
  }
  return { width, height, data };
}

/** Where the crop begins in the image. A smaller image gets the larger half of an odd padding before it. */
const offset = (size: number, target: number): number =>
  size >= target ? Math.floor((size - target) / 2) : -Math.ceil((target - size) / 2);
