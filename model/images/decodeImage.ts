import { readFile } from 'node:fs/promises';
import { RmError, reasonOf } from '../../engine/index.js';

/** An 8-bit image: bytes [height, width, 3] in the order red, green, blue. */
export interface RgbImage {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8Array;
}

/** Most pixels of an image; a file that claims more is treated as damaged or hostile. */
const MOST_PIXELS = 1 << 28;

/** First bytes of the formats, as latin1. sharp would also open others, such as SVG, which a short file keeps busy. */
const beginnings = [
  '\xff\xd8\xff',
  '\x89PNG\r\n',
  'GIF87a',
  'GIF89a',
  'II*\0',
  'II+\0',
  'MM\0*',
  'MM\0+',
  'RIFF',
];

/** The part of sharp used here. It is loaded with the first image, so that everything else starts without it. */
interface Decoder {
  toColourspace(space: 'srgb'): Decoder;
  raw(options: { depth: 'uchar' }): Decoder;
  toBuffer(options: {
    resolveWithObject: true;
  }): Promise<{ data: Uint8Array; info: { width: number; height: number; channels: number } }>;
}
type Sharp = (bytes: Uint8Array, options: Readonly<Record<string, unknown>>) => Decoder;

let loading: Promise<Sharp> | undefined;

/** Declared as a string so that a build without the package still passes. */
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
 * Reads a JPEG, PNG, WebP, GIF or TIFF file as transformers' image processors do with Pillow: transparency becomes white,
 * colour profiles and orientation tags are ignored, and an animation gives its first frame.
 *
 * @throws RmError DATA_INVALID naming a file that cannot be read or is not an image in one of those formats.
 */
export async function decodeImage(path: string): Promise<RgbImage> {
  const sharp = await loadSharp();
  const invalid = (problem: string, cause?: unknown) =>
    new RmError('DATA_INVALID', `${path}: ${problem}`, 'Give JPEG, PNG, WebP, GIF or TIFF files.', { cause });
  const bytes = await readFile(path).catch((error: Error) => {
    throw invalid(`cannot be read: ${reasonOf(error)}`, error);
  });
  const first = bytes.subarray(0, 6).toString('latin1');
  if (!beginnings.some(beginning => first.startsWith(beginning))) {
    throw invalid('is damaged or not an image (its first bytes are those of no such format)');
  }
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
    throw invalid(`is damaged or not an image (${reasonOf(error)})`, error);
  }
}

/** Converts pixels with one (grey) or three channels, optionally followed by opacity. */
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
