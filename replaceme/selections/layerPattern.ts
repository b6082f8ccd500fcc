import type { Architecture } from '../../model/index.js';
import { keptLayers, type Window } from '../run/window.js';

/**
 * Whether each layer that stays is of the kind (attention window and rotation) that the model has in its new place. Formats
 * that derive the kinds from the places alone can hold such a model only.
 */
export const keepsLayerPattern = (
  { layers, attentionWindow, layerRope }: Pick<Architecture, 'layers' | 'attentionWindow' | 'layerRope'>,
  windows: readonly Window[],
): boolean =>
  keptLayers(windows, layers).every(
    (layer, place) =>
      attentionWindow[layer] === attentionWindow[place] && layerRope[layer] === layerRope[place],
  );
