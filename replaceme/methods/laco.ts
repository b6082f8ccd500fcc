import type { LayerWeights } from '../../model/model.js';
import { mergedLayer } from '../mergedLayer.js';
import { repairInOrder, requireLayerBefore } from '../repairInOrder.js';
import type { Method } from './method.js';

export const laco: Method = {
  name: 'laco',
  summary: 'add the differences of the removed layers to the weights of the layer that stays',
  source: 'Yang et al., LaCo, arXiv:2402.11187',
  selection: 'laco',
  needsCalibration: false,
  wholeModel: true,
  async repair(context, windows) {
    const { model, settings } = context;
    if (settings.heal) {
      return repairInOrder(context, windows, async (_, window) => ({
        weights: mergedLayer(model, window),
        details: {},
      }));
    }
    requireLayerBefore(windows);
    const layers = windows.map((window): [number, Partial<LayerWeights>] => [
      window.layer,
      mergedLayer(model, window),
    ]);
    return { changes: { layers: new Map(layers) }, details: {} };
  },
};
