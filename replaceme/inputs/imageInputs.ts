import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import {
  type Device,
  ensure,
  RmError,
  reasonOf,
  seededRandom,
  sha256,
  sha256OfFile,
} from '../../engine/index.js';
import {
  type Architecture,
  imageEmbeddings,
  type Model,
  modelFingerprint,
  openModelSource,
  readImageProcessor,
  requireVision,
  showImages,
} from '../../model/index.js';
import { calibrationBatches } from '../calibration/packBatches.js';
import type { CalibrationFile } from '../calibration/readCalibration.js';
import type { CalibrationSizes } from '../calibration/sizes.js';
import { defaultEvaluationTokens } from '../calibration/sizes.js';
import { evaluateImages } from '../evaluation/evaluateImages.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { runHooks } from '../run/runHooks.js';
import type { PruneInputs } from './pruneInputs.js';

const imageFile = /^\.(jpe?g|png|webp|gif|tiff?)$/i;

/** Number of images whose embeddings verify the written model. */
const COMPARED = 4;

/** The given image files and those in given folders, in a fixed random order, so that any beginning is a fair sample. */
async function imageFiles(paths: readonly string[], seed = 0): Promise<{ source: number; path: string }[]> {
  const files: { source: number; path: string }[] = [];
  for (const [source, path] of paths.entries()) {
    const entry = await stat(path).catch(() => undefined);
    if (!entry) {
      throw new RmError('DATA_INVALID', `${path}: does not exist`, 'Give image files, or folders of them.');
    }
    if (!entry.isDirectory()) {
      files.push({ source, path });
      continue;
    }
    const all = await readdir(path).catch(error => {
      const message = `${path}: cannot be read: ${reasonOf(error)}`;
      throw new RmError('DATA_INVALID', message, 'Check its permissions.', { cause: error });
    });
    const names = all.filter(name => imageFile.test(extname(name))).sort();
    if (names.length === 0) {
      const message = `${path}: has no JPEG, PNG, WebP, GIF or TIFF file`;
      throw new RmError('DATA_INVALID', message, 'Give image files, or folders of them.');
    }
    for (const name of names) files.push({ source, path: join(path, name) });
  }
  // Fisher and Yates' shuffle: folders are often sorted by what the images show.
  const random = seededRandom(seed);
  for (let i = files.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [files[i], files[j]] = [files[j]!, files[i]!];
  }
  return files;
}

/** SHA-256 over several files. */
async function hashOf(paths: readonly string[]): Promise<string> {
  return sha256((await Promise.all(paths.map(sha256OfFile))).join(''));
}

/**
 * Reads the images for pruning a vision encoder.
 *
 * @param needsCalibration whether the run uses calibration images.
 * @throws RmError DATA_INVALID for a file that is no image, CONFIG_INVALID for a wrong preprocessor_config.json.
 */
export async function readImageInputs(
  from: string,
  arch: Architecture,
  device: Device,
  options: PruneOptions,
  { tokens, batchTokens }: CalibrationSizes,
  needsCalibration: boolean,
): Promise<PruneInputs> {
  const processor = await readImageProcessor(await openModelSource(from), requireVision(arch).imageSize);
  const perImage = arch.contextLength;
  const images = await imageFiles(options.calibration ?? [], options.seed);
  const fitted = needsCalibration ? images.slice(0, Math.max(1, Math.floor(tokens / perImage))) : [];
  const files = await Promise.all(
    (options.calibration ?? []).map(async (path, source): Promise<CalibrationFile> => {
      const used = fitted.filter(image => image.source === source).map(image => image.path);
      return {
        path,
        sha256: await hashOf(used),
        weight: 1,
        tokens: used.length * perImage,
        documents: used.length,
      };
    }),
  );
  const evaluationTokens = options.evaluationTokens ?? defaultEvaluationTokens(device);
  const most = Math.max(1, Math.floor(evaluationTokens / perImage));
  const given = (await imageFiles(options.evaluation ?? [])).slice(0, most);
  const unseen = images.slice(fitted.length, fitted.length + most);
  const [judged, origin] =
    given.length > 0
      ? ([given, 'given'] as const)
      : unseen.length > 0
        ? ([unseen, 'held-out calibration'] as const)
        : ([fitted.slice(0, most), 'calibration'] as const);
  ensure(
    fitted.length + judged.length > 0,
    'there is no image to verify the written model with',
    'Give images by `calibration` or `evaluation`.',
  );
  const withReport = options.report !== 'none';
  return {
    recipe: {
      model: await modelFingerprint(from),
      images: files.map(file => file.sha256),
      'number of images': files.map(({ documents }) => documents),
      'images of the report': [origin, await hashOf(judged.map(({ path }) => path))],
      'number of tokens at a time': batchTokens,
    },
    async open(loaded: Model) {
      const all = [...fitted, ...(origin === 'calibration' ? [] : judged)].map(({ path }) => path);
      const shown = await showImages(loaded, processor, all, runHooks(options));
      const { model, sequences } = shown;
      const calibrated = sequences.slice(0, fitted.length).map((ids, i) => ({
        ids: [...ids],
        source: fitted[i]!.source,
        half: (i % 2) as 0 | 1,
      }));
      const calibration = { sequences: calibrated, tokens: fitted.length * perImage, files };
      const evaluated = origin === 'calibration' ? sequences.slice(0, most) : sequences.slice(fitted.length);
      const compared = sequences.slice(0, COMPARED);
      return {
        model,
        calibration,
        batches: calibrationBatches(calibration, batchTokens),
        heldOut: [],
        outputTokens: compared.length * perImage,
        outputs: either => imageEmbeddings(either, compared),
        async outputsOfLoaded(written) {
          using shownAgain = await showImages(written, processor, all.slice(0, COMPARED));
          return await imageEmbeddings(shownAgain.model, shownAgain.sequences);
        },
        ...(withReport && {
          evaluate: async outcome => ({ imageEvaluation: await evaluateImages(outcome, evaluated, origin) }),
        }),
        [Symbol.dispose]: () => shown[Symbol.dispose](),
      };
    },
  };
}
