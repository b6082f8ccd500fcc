import { existsSync } from 'node:fs';
import { hubCacheFolder } from './cacheFolder.js';
import { locateModel } from './locate.js';

/**
 * The places that no output may touch: models by path or name, files and folders that are read, and the Hugging Face cache.
 *
 * @param others paths, or words such as "sciq=rows.jsonl"; what does not exist is left out.
 */
export async function inputPaths(
  models: readonly (string | undefined)[],
  others: readonly (string | undefined)[] = [],
): Promise<string[]> {
  const located = models
    .filter(model => model !== undefined)
    .map(async model => (await locateModel(model)).path);
  const paths = others
    .filter(other => other !== undefined)
    .flatMap(other => [other, ...(other.includes('=') ? [other.slice(other.indexOf('=') + 1)] : [])]);
  return [...(await Promise.all(located)), ...paths.filter(path => existsSync(path)), hubCacheFolder()];
}
