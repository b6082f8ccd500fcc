import type { Method } from './method.js';
import { plain } from './plain.js';

export const sleb: Method = {
  ...plain,
  name: 'sleb',
  summary: 'remove one layer after the other by perplexity, replace them by nothing',
  source: 'Song et al., SLEB, arXiv:2402.09025',
  selection: 'perplexity',
};
