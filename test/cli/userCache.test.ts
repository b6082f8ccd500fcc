import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type CacheKey,
  cacheKey,
  readUserCache,
  userCachePath,
  writeUserCache,
} from '../../cli/device/userCache.js';
import { cacheFolder } from '../../engine/cacheFolder.js';
import { finite, record } from '../../engine/form.js';
import { sealed } from '../../engine/seal.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const key: CacheKey = { adapter: 'mesa software llvmpipe', driver: 'Mesa 25', version: '1.0.0' };
const rates = record({ rate: finite() });

/** Reads the cache; returns the value and the warnings. */
async function read(folder: string, readKey = key) {
  const warnings: string[] = [];
  const value = await readUserCache('peak', readKey, {
    form: rates,
    warn: text => warnings.push(text),
    folder,
  });
  return { value, warnings };
}

test('a stored value is read again, a missing one is absent without a word', async () => {
  using temporary = temporaryFolder();
  const folder = join(temporary.path, 'not', 'there', 'yet');
  assert.equal(await read(folder), { value: undefined, warnings: [] });
  const path = await writeUserCache('peak', key, { rate: 3 }, folder);
  assert.is(path, userCachePath('peak', key, folder));
  assert.equal(await read(folder), { value: { rate: 3 }, warnings: [] });
  await writeUserCache('peak', key, { rate: 4 }, folder);
  assert.equal((await read(folder)).value, { rate: 4 });
  assert.is(readdirSync(folder).length, 1, 'nothing temporary is left');
});

test('every adapter and driver has a file of its own, a newer rm-engine writes over an older', async () => {
  using folder = temporaryFolder();
  await writeUserCache('peak', key, { rate: 1 }, folder.path);
  await writeUserCache('peak', { ...key, adapter: 'other' }, { rate: 2 }, folder.path);
  await writeUserCache('peak', { ...key, driver: 'Mesa 26' }, { rate: 3 }, folder.path);
  await writeUserCache('peak', { ...key, version: '2.0.0' }, { rate: 4 }, folder.path);
  assert.is(readdirSync(folder.path).length, 3);
  assert.equal((await read(folder.path, { ...key, adapter: 'other' })).value, { rate: 2 });
  const old = await read(folder.path);
  assert.is(old.value, undefined);
  assert.match(old.warnings.join(), /was written for rm-engine 2\.0\.0 and is ignored/);
});

for (const [what, content, warning] of [
  ['cut off', '{"key": {"adap', /is not JSON and is ignored/],
  ['empty', '', /is not JSON/],
  ['null', 'null', /is damaged and is ignored: it is not an object/],
  ['a list', '[1]', /is damaged and is ignored/],
  ['too deep', `${'['.repeat(9999)}${']'.repeat(9999)}`, /is not JSON/],
  ['of another form', JSON.stringify(sealed({ key, value: { rate: 'fast' } })), /expected form .*"fast"/],
  ['of a number that is none', JSON.stringify(sealed({ key, value: { rate: null } })), /expected form/],
  ['without a value', JSON.stringify(sealed({ key })), /does not have the expected form/],
  ['of no key', JSON.stringify(sealed({ key: 'a', value: { rate: 1 } })), /is damaged/],
  ['without a hash', JSON.stringify({ key, value: { rate: 1 } }), /has no "sha256" over its content/],
  [
    'changed',
    JSON.stringify({ ...sealed({ key, value: { rate: 1 } }), value: { rate: 2 } }),
    /does not match/,
  ],
  [
    'of another adapter',
    JSON.stringify(sealed({ key: { ...key, adapter: 'x' }, value: { rate: 1 } })),
    /another device/,
  ],
] as const) {
  test(`a cache that is ${what} counts as none, with one warning`, async () => {
    using folder = temporaryFolder();
    writeFileSync(userCachePath('peak', key, folder.path), content);
    const { value, warnings } = await read(folder.path);
    assert.is(value, undefined);
    assert.is(warnings.length, 1);
    assert.match(warnings[0]!, warning);
  });
}

test('a folder in place of the file is warned of when reading and is OUTPUT_FAILED when writing', async () => {
  using folder = temporaryFolder();
  const path = userCachePath('peak', key, folder.path);
  mkdirSync(join(path, 'within'), { recursive: true });
  assert.match((await read(folder.path)).warnings.join(), /cannot be read and is ignored/);
  await rejectsWith(() => writeUserCache('peak', key, { rate: 1 }, folder.path), 'OUTPUT_FAILED');
  assert.equal(readdirSync(folder.path).length, 1, 'nothing temporary is left');
  const file = join(folder.path, 'file');
  writeFileSync(file, '');
  await rejectsWith(() => writeUserCache('peak', key, { rate: 1 }, join(file, 'within')), 'OUTPUT_FAILED');
});

test('the folder by platform', () => {
  const home = cacheFolder({}, 'linux');
  assert.match(home, /\.cache.rm-engine$/);
  assert.match(cacheFolder({}, 'darwin'), /Library.Caches.rm-engine$/);
  assert.is(cacheFolder({ LOCALAPPDATA: 'L' }, 'win32'), join('L', 'rm-engine'));
  const absolute = join(process.cwd(), 'c');
  assert.is(cacheFolder({ XDG_CACHE_HOME: absolute }, 'linux'), join(absolute, 'rm-engine'));
  assert.is(cacheFolder({ XDG_CACHE_HOME: 'relative' }, 'linux'), home);
});

test('the key names adapter, driver and the version of package.json', () => {
  const file = fileURLToPath(new URL('../../../package.json', import.meta.url));
  const { version } = JSON.parse(readFileSync(file, 'utf8'));
  const info = {
    ...{ description: 'Mesa 25', vendor: 'mesa', architecture: '', device: 'llvmpipe' },
    ...{ kind: 'software' as const, subgroupMinSize: 8, subgroupMaxSize: 8, subgroupMatrixConfigs: [] },
  };
  assert.equal(cacheKey(info), { adapter: 'mesa llvmpipe', driver: 'Mesa 25', version });
});

test.run();
