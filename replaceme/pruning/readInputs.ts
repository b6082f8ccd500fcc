import { tuningOf } from '../../kernels/index.js';
import { calibrationSizes } from '../calibration/sizes.js';
import { readImageInputs } from '../inputs/imageInputs.js';
import type { PruneInputs } from '../inputs/pruneInputs.js';
import { readTextInputs } from '../inputs/textInputs.js';
import { dtypeOf } from '../options/pruneOptions.js';
import type { PruneReport } from '../report/schema/schema.js';
import { needsCalibration } from '../request/needs.js';
import { packageVersion } from '../run/packageVersion.js';
import type { PruneRun } from './pruneRun.js';

/** The settings of the run with its defaults, as the report states them. */
export type PruneRecipe = PruneReport['recipe'];

/** The settings of the run with its defaults. */
export function recipeOf({ options, request, device }: PruneRun): PruneRecipe {
  const { mask, generate, seed, faithful } = options;
  return {
    ...request.settings,
    ...(mask !== undefined && { mask }),
    ...(generate !== undefined && { generate }),
    ...(seed !== undefined && { seed }),
    ...dtypeOf(options),
    ...(faithful && { faithful }),
    ...calibrationSizes(options, device, request.arch),
  };
}

/**
 * Reads calibration and evaluation data, before the model: a wrong file should not cost the time of loading it. Then
 * states to the journal what the result depends on.
 *
 * @throws RmError DATA_INVALID for data that cannot be read; INVALID_ARGUMENT where a resumed run differs.
 */
export async function readInputs(run: PruneRun, recipe: PruneRecipe): Promise<PruneInputs> {
  const { from, options, request, device } = run;
  const read = request.arch.vision ? readImageInputs : readTextInputs;
  const inputs = await run.during('calibrate', () =>
    read(
      from,
      request.arch,
      device,
      options,
      recipe,
      needsCalibration(request),
      request.budget !== undefined,
    ),
  );
  run.move();
  run.agree({
    'version of rm-engine': await packageVersion(),
    ...inputs.recipe,
    method: request.method.name,
    selection: options.select ?? request.method.selection,
    'layers to remove': request.windows ?? request.budget ?? request.count,
    windows: [request.windowCount, request.apart],
    settings: request.settings,
    'healing by gradient': request.gradient ?? null,
    'number type of the output': options.dtype,
    adapter: [device.info, device.limits],
    'choice of kernels (rm-engine tune)': tuningOf(device),
  });
  return inputs;
}
