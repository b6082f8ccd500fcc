import { readFile } from 'node:fs/promises';
import { RmError } from '../../engine/index.js';

/** An image of 8 bits a channel: bytes [height, width, 3], red, green, blue. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Pixels that an image may have at most: one that claims more is taken for damaged or hostile. */
const MOST_PIXELS = 1 << 28;

/** What is used of sharp; it is loaded with the first image, so that all else starts without it. */
interface Decoder {
  toColourspace(space: 'srgb'): Decoder;
  raw(options: { depth: 'uchar' }): Decoder;
  toBuffer(options: {
    resolveWithObject: true;
  }): Promise<{ data: Uint8Array; info: { width: number; height: number; channels: number } }>;
}
type Sharp = (bytes: Uint8Array, options: Readonly<Record<string, unknown>>) => Decoder;

let loading: Promise<Sharp> | undefined;

/** Typed here, not by its own types: a build without the package still passes. */
const packageName: string = 'sharp';

async function loadSharp(): Promise<Sharp> {
  loading ??= import(packageName).then(
    (module: { default: Sharp }) => module.default,
    (cause: unknown) => {
      loading = undefined;
      throw new RmError(
        'CONFIG_INVALID',
        'images cannot be read: the package sharp does not load on this platform',
        'Install it beside rm-engine: npm install sharp@0.34.5 (see its page on platforms).',
        { cause },
      );
    },
  );
  return loading;
}

/**
 * Reads a JPEG, PNG, WebP, GIF or TIFF file as transformers' image processors do with Pillow: what is transparent becomes
 * white, colour profiles and orientation tags are not applied, of an animation the first frame counts.
 *
 * @throws RmError DATA_INVALID naming the file where it cannot be read or is no image of those formats.
 */
export async function decodeImage(path: string): Promise<RgbImage> {
  const sharp = await loadSharp();
  const invalid = (problem: string, cause?: unknown) =>
    new RmError('DATA_INVALID', `${path}: ${problem}`, 'Give JPEG, PNG, WebP, GIF or TIFF files.', { cause });
  const bytes = await readFile(path).catch((error: Error) => {
    throw invalid(`cannot be read: ${error.message}`, error);
  });
  try {
    const { data, info } = await sharp(bytes, {
      ignoreIcc: true,
      failOn: 'truncated',
      limitInputPixels: MOST_PIXELS,
    })
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    return { width: info.width, height: info.height, data: toRgb(data, info.channels) };
  } catch (error) {
    throw invalid(`is damaged or no image (${(error as Error).message.split('\n')[0]})`, error);
  }
}

/** Of pixels with one (grey) or three channels, and perhaps an opacity behind them. */
function toRgb(data: Uint8Array, channels: number): Uint8Array {
  if (channels === 3) return data;
  const colours = channels > 2 ? 3 : 1;
  const pixels = data.length / channels;
  const rgb = new Uint8Array(3 * pixels);
  for (let i = 0; i < pixels; i++) {
    const at = i * channels;
    const opacity = channels === colours ? 255 : data[at + colours]!;
    for (let c = 0; c < 3; c++) {
      // Pillow's rounding of a division by 255.
      const sum = data[at + (c % colours)]! * opacity + 255 * (255 - opacity) + 128;
      rgb[3 * i + c] = ((sum >> 8) + sum) >> 8;
    }
  }
  return rgb;
}
