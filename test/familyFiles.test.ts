import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

// What a Llama-like family adds to the code, and where: docs/families.md says it. Reads files only.

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const read = (path: string): string[] => readFileSync(join(root, path), 'utf8').trimEnd().split('\n');

const sources = ['engine', 'kernels', 'model', 'replaceme', 'cli', 'bench'].flatMap(floor =>
  (readdirSync(join(root, floor), { recursive: true }) as string[])
    .filter(path => path.endsWith('.ts'))
    .map(path => join(floor, path)),
);

/** The row of llama.cpp's table of families that says this. */
function ggufRow(lines: readonly string[], at: number): number {
  const begin = lines.lastIndexOf('  {', at);
  return lines.indexOf('  },', at) - begin + 1;
}

/** Lines of each source file that are there for a family alone. */
function linesFor(modelType: string): Record<string, number> {
  const camel = modelType.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  const own = join('model', 'families', `${camel}.ts`);
  const named = new RegExp(`\\b(${modelType}|${camel})\\b`);
  const counted: Record<string, number> = {};
  for (const path of sources) {
    const lines = read(path);
    const mentions = lines.flatMap((line, at) => (named.test(line) ? [at] : []));
    if (path === own) counted[path] = lines.length;
    else if (path === join('model', 'gguf', 'families.ts')) {
      const row = lines.findIndex(line => line.includes(`modelType: '${modelType}'`));
      if (row >= 0) counted[path] = ggufRow(lines, row);
    } else if (mentions.length > 0) counted[path] = mentions.length;
  }
  return counted;
}

for (const family of ['arcee', 'seed_oss']) {
  test(`${family} is in its own file, a table of families and llama.cpp's, in fewer than 60 lines`, () => {
    const counted = linesFor(family);
    console.log(
      `${family}: ${Object.entries(counted)
        .map(([path, count]) => `${path} ${count}`)
        .join(', ')}`,
    );
    const own = Object.keys(counted).filter(path => !/(families\/index|gguf\/families)\.ts$/.test(path));
    assert.is(own.length, 1, `${own}`);
    assert.ok(Object.values(counted).reduce((sum, count) => sum + count) < 60);
  });
}

test.run();
