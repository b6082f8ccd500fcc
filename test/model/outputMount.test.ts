// Outputs on a mount of their own (tmpfs, where it may be mounted), and locks where there are no hard links. 1 s.
import { spawnSync } from 'node:child_process';
import fs, { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { withOutputFolder } from '../../model/files/outputFolder.js';
import { type FolderKind, listFolder } from '../../model/files/outputKind.js';
import { RunLock } from '../../replaceme/resume/runLock.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped, temporaryFolder } from '../support.js';

const kind: FolderKind = {
  name: 'a folder of this test',
  isOne: folder => existsSync(join(folder, 'config.json')),
  holds: name => ['config.json', 'weights', 'inner/text'].includes(name),
};

const write = (content: string) => async (folder: string) => {
  writeFileSync(join(folder, 'config.json'), content);
  writeFileSync(join(folder, 'weights'), content);
  mkdirSync(join(folder, 'inner'));
  writeFileSync(join(folder, 'inner', 'text'), content);
};

/** Mounts a tmpfs; undefined where that is not allowed. */
function mounted(path: string): Disposable | undefined {
  mkdirSync(path);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', path]).status !== 0) return undefined;
  return { [Symbol.dispose]: () => spawnSync('umount', [path]) };
}

const contents = (folder: string): Record<string, string> =>
  Object.fromEntries(
    listFolder(folder)
      .filter(({ type }) => type === 'file')
      .map(({ name }) => [name, readFileSync(join(folder, name), 'utf8')]),
  );

test('a mount point is filled, refilled with `force`, and left as it was on a failure', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'mount');
  using mount = mounted(out);
  if (!mount) {
    saySkipped('outputs on a mount of their own: no tmpfs can be mounted here');
    return;
  }
  await withOutputFolder(out, kind, {}, async folder => {
    assert.ok(folder.startsWith(`${out}/.rm-engine-`), 'the work is on the disk of the output');
    await write('first')(folder);
    assert.not.ok(existsSync(join(out, 'config.json')));
  });
  const of = (text: string) => ({ 'config.json': text, 'inner/text': text, weights: text });
  assert.equal(contents(out), of('first'));
  assert.match(
    await rejectsWith(() => withOutputFolder(out, kind, {}, write('x')), 'OUTPUT_EXISTS'),
    'not empty',
  );
  await withOutputFolder(out, kind, { force: true }, write('second'));
  assert.equal(contents(out), of('second'));

  const boom = withOutputFolder(out, kind, { force: true }, async folder => {
    await write('third')(folder);
    throw new Error('boom');
  });
  assert.is((await boom.catch(error => error)).message, 'boom');
  assert.equal(contents(out), of('second'));

  // What has come during the work stays, and so does the rest.
  const late = async (folder: string) => {
    await write('fourth')(folder);
    writeFileSync(join(out, 'mine'), 'mine');
  };
  await rejectsWith(() => withOutputFolder(out, kind, { force: true }, late), 'OUTPUT_EXISTS');
  assert.equal(contents(out), { ...of('second'), mine: 'mine' });
  await rejectsWith(() => withOutputFolder(out, kind, { force: true }, write('x')), 'OUTPUT_EXISTS');
  assert.equal(readdirSync(place.path), ['mount'], 'nothing is left beside it');
});

/** Runs `work` where links fail as on exFAT. */
async function withoutLinks(work: () => Promise<void>): Promise<void> {
  const { link } = fs.promises;
  fs.promises.link = () => Promise.reject(Object.assign(new Error('EPERM'), { code: 'EPERM' }));
  syncBuiltinESMExports();
  try {
    await work();
  } finally {
    fs.promises.link = link;
    syncBuiltinESMExports();
  }
}

test('without hard links one run at a time holds the lock, and a dead run loses it', async () => {
  using place = temporaryFolder();
  const folder = place.path;
  await withoutLinks(async () => {
    const first = await RunLock.take(folder);
    // This process counts as dead to itself; the parent lives.
    const holder = JSON.parse(readFileSync(join(folder, 'lock'), 'utf8'));
    writeFileSync(join(folder, 'lock'), JSON.stringify({ ...holder, pid: process.ppid }));
    assert.match(await rejectsWith(() => RunLock.take(folder), 'OUTPUT_EXISTS'), 'in use by another run');
    writeFileSync(join(folder, 'lock'), JSON.stringify(holder));
    await first.check(folder);
    await first.release();
    assert.equal(readdirSync(folder), []);

    const dead = await RunLock.take(folder);
    const second = await RunLock.take(folder);
    await rejectsWith(() => dead.check(folder), 'OUTPUT_EXISTS');
    await second.release();
    await dead.release();
    assert.equal(readdirSync(folder), []);
  });
});

test('a lock that is still being written is waited for', async () => {
  using place = temporaryFolder();
  const folder = place.path;
  await withoutLinks(async () => {
    writeFileSync(join(folder, 'lock'), '');
    const holder = { token: 'of another', pid: process.ppid, host: (await import('node:os')).hostname() };
    setTimeout(() => writeFileSync(join(folder, 'lock'), JSON.stringify(holder)), 200);
    await rejectsWith(() => RunLock.take(folder), 'OUTPUT_EXISTS');
    assert.equal(JSON.parse(readFileSync(join(folder, 'lock'), 'utf8')), holder);
  });
});

test.run();
