import { sizeClass } from '../../engine/index.js';
import { scale } from '../../kernels/index.js';
import { fitCosine } from '../fits/cosineFit.js';
import type { FitPass } from '../fits/fitPass.js';
import { foldTransform } from '../fits/foldTransform.js';
import { linearRefusal } from '../fits/linearRefusal.js';
import { type LayerFit, repairInOrder } from '../fits/repairInOrder.js';
import { type CosineSettings, cosineSettings } from '../options/pruneOptions.js';
import { type Method, settingsOf } from './method.js';

async function fit(pass: FitPass, settings: CosineSettings): Promise<LayerFit> {
  const { transform, lossBefore, lossAfter, leastSquaresScale } = await fitCosine(pass, settings);
  using _ = transform;
  if (settings.scale === 'least-squares') scale(pass.model.device.recorder, transform, leastSquaresScale!);
  const { equation, epochs, learningRate, l1, l2, seed, shuffle } = settings;
  return {
    weights: await foldTransform(pass.model, pass.layer, transform),
    details: {
      tokens: pass.inputs.tokens,
      ...{ equation, epochs, learningRate, l1, l2, order: shuffle ? `seed ${seed}` : 'as read' },
      ...{ lossBefore, lossAfter, scale: settings.scale },
      ...(leastSquaresScale !== undefined && { leastSquaresScale }),
    },
  };
}

/** Fits one linear map T of the MLP output of the layer that stays, to the direction of the hidden states. */
export const replacemeCosine: Method = {
  name: 'replaceme-cosine',
  summary: 'one linear map in place of the layers, by Adam on the cosine distance',
  source: 'Shopkhoev et al., ReplaceMe (Eqs. 7 and 8), arXiv:2505.02819',
  selection: 'cosine',
  reads: settingsOf('replaceme-cosine'),
  needsCalibration: true,
  refusal: linearRefusal,
  fitCost: ({ arch: { hidden }, settings, tokens, layer }) => {
    const { epochs } = cosineSettings(settings.cosine);
    return {
      // M, what it is compared with, and both once more in the order of an epoch.
      memory: [{ sums: 4 * 3 * tokens * hidden, solve: 6 * sizeClass(4 * hidden * hidden) }],
      flops: tokens * (layer.all + 6 * epochs * hidden * hidden),
    };
  },
  repair: (context, windows) => {
    const settings = cosineSettings(context.settings.cosine);
    return repairInOrder(context, windows, pass => fit(pass, settings));
  },
};
