/** The everyday functions. Everything else is in rm-engine/engine, /kernels, /model and /replaceme. */
export { Device, type DeviceOptions, RmError } from './engine/public.js';
export { evaluate, generate, loadTokenizer, Model } from './model/public.js';
export {
  type CompareOptions,
  type CompareReport,
  compare,
  type HealOptions,
  type HealReport,
  heal,
  type PruneOptions,
  type PruneReport,
  prune,
} from './replaceme/public.js';
