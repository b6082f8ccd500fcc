import type { Method } from './method.js';
import { plain } from './plain.js';

export const shortgpt: Method = {
  ...plain,
  name: 'shortgpt',
  summary: 'remove the layers of least block influence, wherever they are, replace them by nothing',
  source: 'Men et al., ShortGPT, arXiv:2403.03853',
  selection: 'block-influence',
};
