export * from './public.js';
export { markdownTable } from './report/text/textTable.js';
export { layerFlopsPerToken } from './run/computeRate.js';
