import type { LayerWeights } from '../../model/index.js';
import { haveOneKind, type MergeRule, mergedLayer } from '../fits/mergedLayer.js';
import { repairInOrder, requireLayerBefore } from '../fits/repairInOrder.js';
import type { Method } from './method.js';

const merging = (
  rule: MergeRule,
  texts: Pick<Method, 'name' | 'summary' | 'source' | 'selection'>,
): Method => ({
  ...texts,
  needsCalibration: false,
  wholeModel: true,
  changes: 'layers',
  refusal: arch =>
    haveOneKind(arch, [...arch.linear.keys()])
      ? undefined
      : `layers of this ${arch.family} model are of several kinds, so their weights cannot be added`,
  async repair(context, windows) {
    const { model, settings } = context;
    if (settings.heal) {
      return repairInOrder(context, windows, async (_, window) => ({
        weights: mergedLayer(model, window, rule),
        details: {},
      }));
    }
    requireLayerBefore(windows);
    const layers = windows.map((window): [number, Partial<LayerWeights>] => [
      window.layer,
      mergedLayer(model, window, rule),
    ]);
    return { changes: { layers: new Map(layers) }, details: {} };
  },
});

export const laco = merging('paper', {
  name: 'laco',
  summary: 'add the differences of the removed layers to the weights of the layer that stays',
  source: 'Yang et al., LaCo, arXiv:2402.11187',
  selection: 'laco',
});

export const lacoReleased = merging('released', {
  name: 'laco-released',
  summary: "the same as its authors' program does it: the weights of the last removed layer",
  source: 'github.com/yangyifei729/LaCo (laco_llama-13b.ipynb)',
  selection: 'laco-released',
});
