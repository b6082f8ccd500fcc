import type { Method } from './method.js';
import { plain } from './plain.js';

/** LLM-Streamline without its trained layer: it selects by `cosine`, so its result is that of `plain`. */
export const streamline: Method = {
  ...plain,
  name: 'streamline',
  summary: 'LLM-Streamline (None): the same as plain, the window of least cosine distance goes',
  source: 'Chen et al., LLM-Streamline, arXiv:2403.19135',
};
