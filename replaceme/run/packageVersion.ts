import { readFile } from 'node:fs/promises';
import { shippedPath } from '../../model/index.js';

/** This package's name and version. */
export async function packageVersion(): Promise<string> {
  const { name, version } = JSON.parse(await readFile(shippedPath('..', 'package.json'), 'utf8')) as {
    name: string;
    version: string;
  };
  return `${name} ${version}`;
}
