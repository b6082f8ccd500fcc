import { isRecord } from '../files/jsonFile.js';

/** Lists and maps that are not per layer, even where their length happens to be the number of layers. */
const notPerLayer =
  /^(architectures|auto_map|vision_config|.*_token_ids?|.*_tokens|rope_.*|quantization_config|(id2label|label2id))$/;

/** Maps whose keys are numbers, but not those of layers. */
const notByLayer = /label|token|vocab|lang|class/;

const isNumber = /^(0|[1-9]\d*)$/;

/** A key that names a layer: "layer_3", "model.layers.3.mlp". */
const layerKey = /^(.*(?:^|[._])(?:layers?[._]?|blocks?[._]|h[._]))(\d+)(\D.*)?$/;

/** Lists of the numbers of some layers: mlp_only_layers, layer_ids, full_attn_idxs. */
const layerList = /(^|_)(layers|(?:layer|attn)_(ids?|idxs?|ind(ex|exes|ices)|numbers?))$/;

/** Whether these are numbers of layers, each once and ascending. */
const areLayers = (numbers: readonly unknown[], layers: number): boolean =>
  numbers.length > 0 &&
  numbers.every(
    (value, i) =>
      Number.isInteger(value) &&
      (value as number) > ((numbers[i - 1] as number | undefined) ?? -1) &&
      (value as number) < layers,
  );

/** The layers of a model that stay. */
export interface KeptLayers {
  /** Old indices, ascending. */
  readonly keep: readonly number[];
  /** Layers before. */
  readonly layers: number;
}

/**
 * Cuts the settings of single layers in a part of a config.json: lists with an entry for each layer, maps by the number or
 * name of a layer ("3", "model.layers.3"), lists of layers (mlp_only_layers), num_hidden_layers and max_window_layers. Keeps
 * the rest and the order of keys.
 *
 * @param name the key of the value.
 */
export function cutSettings(value: unknown, kept: KeptLayers, name = ''): unknown {
  const { keep, layers } = kept;
  if (notPerLayer.test(name)) return value;
  if (name === 'num_hidden_layers' && value === layers) return keep.length;
  // Layers below max_window_layers have full attention: count the kept ones.
  if (name === 'max_window_layers' && typeof value === 'number') {
    return keep.filter(layer => layer < value).length;
  }
  if (Array.isArray(value)) return cutList(value, kept, name);
  if (!isRecord(value)) return value;
  const entries = Object.entries(value);
  const numbers = entries.map(([key]) => key).filter(key => isNumber.test(key));
  const byNumber = areLayers(numbers.map(Number), layers) && !notByLayer.test(name);
  return Object.fromEntries(
    entries.flatMap(([key, inner]) => {
      const [, before, named, after = ''] =
        (byNumber && isNumber.test(key) ? ['', '', key] : layerKey.exec(key)) ?? [];
      if (named === undefined || Number(named) >= layers) return [[key, cutSettings(inner, kept, key)]];
      const index = keep.indexOf(Number(named));
      return index < 0 ? [] : [[`${before}${index}${after}`, inner]];
    }),
  );
}

function cutList(list: readonly unknown[], { keep, layers }: KeptLayers, name: string): unknown {
  if (list.length === layers) return keep.map(layer => list[layer]);
  if (!layerList.test(name) || !areLayers(list, layers)) return list;
  return list.map(layer => keep.indexOf(layer as number)).filter(index => index >= 0);
}
