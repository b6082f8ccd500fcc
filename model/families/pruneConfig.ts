import { ensure, RmError } from '../../engine/index.js';
import { type Architecture, keepLayers } from '../architecture/architecture.js';
import { cutSettings } from './layerSettings.js';

type Config = Record<string, unknown>;

/** Rules that derive a layer's kind from its index; per-layer lists can replace them. */
const placeRules = [
  ...['no_rope_layer_interval', 'sliding_window_pattern', '_sliding_window_pattern'],
  ...['full_attention_interval'],
];

/**
 * Cuts a parsed config.json to the layers `keep` (old indices, ascending): num_hidden_layers and every setting by layer
 * (cutSettings). If an index rule would now give layers another kind, replaces it by lists. Does not change its argument.
 *
 * @param read reads the architecture from a config.json.
 */
export function cutConfig(
  config: Config,
  keep: readonly number[],
  read: (config: Config) => Architecture,
): Config {
  const arch = read(config);
  const { configPath } = arch;
  const cut = inObject(config, configPath, inner => cutObject(inner, keep, arch.layers));
  const kept = keepLayers(arch, keep);
  const same = (candidate: Architecture) => layerKindsOf(candidate) === layerKindsOf(kept);
  if (same(read(cut))) return cut;
  const listed = inObject(cut, configPath, inner => {
    const rest = Object.entries(inner).filter(([key]) => !placeRules.includes(key));
    return { ...Object.fromEntries(rest), ...kept.configLists };
  });
  if (same(read(listed))) return listed;
  throw new RmError(
    'UNSUPPORTED_FAMILY',
    `config.json of a ${arch.family} model cannot express the kinds of layers [${keep}]`,
    "Choose other layers, so that the kept ones follow the model's rule.",
  );
}

/** Says in a config.json, also in the object at `path`, that the head has weights of its own. */
export const untiedConfig = (config: Config, path: readonly string[]): Config => {
  const untied = { tie_word_embeddings: false };
  return inObject({ ...config, ...untied }, path, inner => ({ ...inner, ...untied }));
};

const layerKindsOf = ({ attentionWindow, layerRope, linear }: Architecture): string =>
  JSON.stringify([attentionWindow, layerRope, linear]);

/** Returns the config with the object at `path` changed. */
function inObject(config: Config, path: readonly string[], change: (inner: Config) => Config): Config {
  const [key, ...rest] = path;
  if (key === undefined) return change(config);
  return { ...config, [key]: inObject(config[key] as Config, rest, change) };
}

/** @param layers before; config.json may leave the number out where it is the family's default. */
function cutObject(config: Config, keep: readonly number[], layers: number): Config {
  ensure(
    keep.length > 0 &&
      keep.every((layer, i) => Number.isInteger(layer) && layer > (keep[i - 1] ?? -1) && layer < layers),
    `cannot keep layers [${keep}] of a model with ${layers}`,
    'Give ascending indices from 0, each once.',
  );

  const stated = 'num_hidden_layers' in config ? config : { num_hidden_layers: layers, ...config };
  return cutSettings(stated, { keep, layers }) as Config;
}
