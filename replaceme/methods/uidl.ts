import type { Method } from './method.js';
import { plain } from './plain.js';

export const uidl: Method = {
  ...plain,
  name: 'uidl',
  summary: 'remove the window with the smallest angle at the last tokens, replace it by nothing',
  selection: 'angular',
};
