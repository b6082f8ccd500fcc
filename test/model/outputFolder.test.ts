import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, relative } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { copyOutputFile, writeOutputFile } from '../../model/files/outputError.js';
import * as outputFile from '../../model/files/outputFile.js';
import * as outputFolder from '../../model/files/outputFolder.js';
import { removeLeftBy } from '../../model/files/outputFolder.js';
import { type FileKind, type FolderKind, listFolder, removeEntries } from '../../model/files/outputKind.js';
import type { OutputOptions } from '../../model/files/outputPlace.js';
import { addUnfinished, companionPath, removeUnfinishedOutput } from '../../model/files/unfinishedOutput.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { treeOf } from '../treeOf.js';

/** What these tests write: folders with one of these names, files that begin with "new". */
const folderKind: FolderKind = {
  name: 'a folder of this test',
  isOne: folder => ['result', 'mine', 'copy', 'half'].some(name => existsSync(join(folder, name))),
  holds: name => ['result', 'mine', 'copy', 'half'].includes(name),
};
const fileKind: FileKind = {
  name: 'a file of this test',
  isOne: path => readFileSync(path, 'utf8').startsWith('new'),
};
type Work<T> = (path: string) => Promise<T>;
const withOutputFolder = <T>(out: string, options: OutputOptions, work: Work<T>) =>
  outputFolder.withOutputFolder(out, folderKind, options, work);
const withOutputFile = <T>(out: string, options: OutputOptions, work: Work<T>) =>
  outputFile.withOutputFile(out, fileKind, options, work);
const checkOutputFolder = (out: string, options?: OutputOptions) =>
  outputFolder.checkOutputFolder(out, folderKind, options);

const writeResult = (folder: string) => writeOutputFile(join(folder, 'result'), 'new');
const boom = async () => Promise.reject(new Error('boom'));

async function throwsBoom(work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.is((error as Error).message, 'boom');
    return;
  }
  assert.unreachable();
}

test('the folder appears whole, and only at the end', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'deep', 'er', 'out');
  const value = await withOutputFolder(out, {}, async folder => {
    assert.match(folder, /deep[\\/]er[\\/]\.rm-engine-/);
    await writeResult(folder);
    assert.not.ok(existsSync(out));
    return 7;
  });
  assert.is(value, 7);
  assert.equal(readdirSync(join(base.path, 'deep', 'er')), ['out']);
  assert.is(readFileSync(join(out, 'result'), 'utf8'), 'new');
  if (process.platform !== 'win32') assert.is(statSync(out).mode & 0o777, 0o777 & ~process.umask());
});

test('an empty folder may be filled, a relative path and a trailing slash are fine', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  mkdirSync(out);
  await withOutputFolder(`${relative(process.cwd(), out)}/`, {}, writeResult);
  assert.equal(readdirSync(out), ['result']);
});

test('a failure leaves nothing, not even the folders made on the way', async () => {
  using base = temporaryFolder();
  await throwsBoom(() => withOutputFolder(join(base.path, 'deep', 'er', 'out'), {}, boom));
  assert.equal(readdirSync(base.path), []);
});

test('what is in the way stays without force', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  mkdirSync(out);
  writeFileSync(join(out, 'mine'), 'old');
  let called = false;
  const work = async () => {
    called = true;
  };
  assert.match(await rejectsWith(() => withOutputFolder(out, {}, work), 'OUTPUT_EXISTS'), /not empty/);
  const file = join(base.path, 'file');
  writeFileSync(file, 'old');
  assert.match(await rejectsWith(() => checkOutputFolder(file), 'OUTPUT_EXISTS'), /a file/);
  await rejectsWith(() => withOutputFolder(join(file, 'out'), {}, work), 'OUTPUT_FAILED');
  assert.not.ok(called);
  assert.equal(readdirSync(base.path).sort(), ['file', 'out']);
});

test('something that comes into the way meanwhile stays too', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  const work = async () => {
    mkdirSync(out);
    writeFileSync(join(out, 'mine'), 'other');
  };
  await rejectsWith(() => withOutputFolder(out, {}, work), 'OUTPUT_EXISTS');
  assert.equal(readdirSync(base.path), ['out']);
  assert.equal(readdirSync(out), ['mine']);
});

test('force replaces, and only after success', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  mkdirSync(out);
  writeFileSync(join(out, 'mine'), 'old');
  await throwsBoom(() => withOutputFolder(out, { force: true }, boom));
  assert.equal(readdirSync(out), ['mine']);
  await withOutputFolder(out, { force: true }, async folder => {
    await copyOutputFile(join(out, 'mine'), join(folder, 'copy'));
  });
  assert.equal(readdirSync(out), ['copy']);
  assert.equal(readdirSync(base.path), ['out']);
});

test('inputs are never replaced', async () => {
  using base = temporaryFolder();
  const model = join(base.path, 'models', 'm');
  mkdirSync(model, { recursive: true });
  const options = { force: true, protect: [model] };
  for (const out of [model, `${model}/.`, join(base.path, 'models'), base.path, process.cwd(), '/']) {
    await rejectsWith(() => checkOutputFolder(out, options), 'OUTPUT_EXISTS');
  }
  await checkOutputFolder(join(base.path, 'models', 'm-pruned'), options);
  await checkOutputFolder(join(base.path, 'models', '..m'), options);
  if (process.platform !== 'win32') {
    symlinkSync(model, join(base.path, 'link'));
    await rejectsWith(() => checkOutputFolder(join(base.path, 'link'), options), 'OUTPUT_EXISTS');
    symlinkSync(join(base.path, 'nowhere'), join(base.path, 'broken'));
    await rejectsWith(() => checkOutputFolder(join(base.path, 'broken'), options), 'OUTPUT_EXISTS');
  }
});

test('a single file: whole or not there', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'deep', 'out.bin');
  await throwsBoom(() =>
    withOutputFile(out, {}, async path => {
      await writeOutputFile(path, 'half');
      return boom();
    }),
  );
  assert.not.ok(existsSync(out));
  await withOutputFile(out, {}, path => writeOutputFile(path, 'new'));
  assert.match(await rejectsWith(() => withOutputFile(out, {}, boom), 'OUTPUT_EXISTS'), /a file/);
  await withOutputFile(out, { force: true }, path => writeOutputFile(path, 'newer'));
  assert.is(readFileSync(out, 'utf8'), 'newer');
  assert.equal(readdirSync(join(base.path, 'deep')), ['out.bin']);
  await rejectsWith(() => withOutputFile(base.path, { force: true }, boom), 'OUTPUT_EXISTS');
});

test('an interruption removes the temporary folder', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  await rejectsWith(
    () =>
      withOutputFolder(out, {}, async folder => {
        await writeResult(folder);
        removeUnfinishedOutput();
        assert.equal(readdirSync(base.path), []);
        await writeResult(folder);
      }),
    'OUTPUT_FAILED',
  );
  assert.equal(readdirSync(base.path), []);
});

/** What a process leaves that is killed while it writes to `out`; its number. */
function killed(how: 'withOutputFolder' | 'withOutputFile', out: string): number {
  const name = how === 'withOutputFile' ? 'outputFile' : 'outputFolder';
  const source = new URL(`../../model/files/${name}.js`, import.meta.url);
  const script = `import { ${how} } from '${source}';
    import { writeFileSync } from 'node:fs';
    await ${how}('${out}', {}, { force: true }, async path => {
      writeFileSync('${how}' === 'withOutputFile' ? path : path + '/half', 'half');
      process.kill(process.pid, 'SIGKILL');
    });`;
  const { pid, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  assert.is(signal, 'SIGKILL');
  return pid;
}

test('what killed processes have left half written goes when the same output is written', async () => {
  using base = temporaryFolder();
  const [out, file] = [join(base.path, 'out'), join(base.path, 'out.gguf')];
  const left = () => readdirSync(base.path).sort();
  killed('withOutputFolder', out);
  killed('withOutputFile', file);
  assert.is(left().length, 2);
  await withOutputFolder(out, {}, writeResult);
  const [halfFile, ...others] = left();
  assert.match(halfFile!, /^\.rm-engine-.*\.gguf$/);
  assert.equal(others, ['out']);
  await withOutputFile(file, {}, path => writeOutputFile(path, 'new'));
  assert.equal(left(), ['out', 'out.gguf']);
});

test('what others may still want stays: of a running process, of another machine, moved aside', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  const left = () => readdirSync(base.path).sort();
  const pid = killed('withOutputFolder', out);
  const [name] = left() as [string];
  const stays = (as: string) => {
    mkdirSync(join(base.path, as));
    return as;
  };
  const running = stays(name.replace(`-${pid}-`, `-${process.ppid}-`));
  const host = createHash('sha256').update('elsewhere').digest('hex').slice(0, 8);
  const elsewhere = stays(name.replace(/-[0-9a-f]{8}-/, `-${host}-`));
  const stranger = stays(name.replace(/-\d+-.*/, '-notes'));
  // Killed between moving the old content aside and putting the new in its place.
  const aside = `${name}.old`;
  renameSync(join(base.path, name), join(base.path, aside));
  await throwsBoom(() => withOutputFolder(out, {}, boom));
  assert.equal(left(), [running, elsewhere, stranger, aside].sort());
  await withOutputFolder(out, {}, writeResult);
  await withOutputFolder(out, { force: true }, writeResult);
  assert.equal(left(), [running, elsewhere, stranger, 'out'].sort());
  await removeLeftBy({ pid, host: 'elsewhere' }, out);
  assert.equal(left(), [running, stranger, 'out'].sort());
});

/** Replaces `out` with force, while `meanwhile` changes something; all must be as that has left it. */
async function overtaken(base: string, out: string, meanwhile: () => void): Promise<void> {
  const isFile = out.endsWith('.bin');
  const replace = isFile ? withOutputFile : withOutputFolder;
  let after = {};
  const message = await rejectsWith(
    () =>
      replace(out, { force: true }, async path => {
        if (isFile) await writeOutputFile(path, 'newer');
        else await writeResult(path);
        meanwhile();
        after = treeOf(base);
      }),
    'OUTPUT_EXISTS',
  );
  assert.match(message, /something else has been put there during the work/);
  const left = Object.entries(after).filter(([name]) => !name.startsWith('.rm-engine-'));
  assert.equal(treeOf(base), Object.fromEntries(left));
}

test('force replaces what was there at the beginning, and nothing that came later', async () => {
  using base = temporaryFolder();
  const [out, file] = [join(base.path, 'out'), join(base.path, 'out.bin')];
  const begin = () => {
    for (const path of [out, file]) rmSync(path, { recursive: true, force: true });
    mkdirSync(out);
    writeFileSync(join(out, 'mine'), 'old');
    writeFileSync(file, 'new');
  };
  const changes: (() => void)[] = [
    () => writeFileSync(join(out, 'thesis.docx'), 'years of work'),
    () => writeFileSync(join(out, 'copy'), 'of a name that we write'),
    () => writeFileSync(join(out, 'mine'), 'changed'),
    () => mkdirSync(join(out, 'photos')),
    () => rmSync(join(out, 'mine')),
    () => {
      rmSync(out, { recursive: true });
      writeFileSync(out, 'a file');
    },
  ];
  for (const change of changes) {
    begin();
    await overtaken(base.path, out, change);
  }
  for (const content of ['a note', 'new, but of another run']) {
    begin();
    await overtaken(base.path, file, () => writeFileSync(file, content));
  }
  begin();
  rmSync(file);
  await overtaken(base.path, file, () => writeFileSync(file, 'new'));
  // What has been removed meanwhile is in nobody's way.
  begin();
  await withOutputFolder(out, { force: true }, async folder => {
    await writeResult(folder);
    rmSync(out, { recursive: true });
  });
  await withOutputFile(file, { force: true }, async path => {
    await writeOutputFile(path, 'newer');
    rmSync(file);
  });
  assert.equal(readdirSync(base.path), ['out', 'out.bin']);
});

test('clean-up goes path by path: one that fails keeps no other, and no entry goes that has changed', () => {
  using base = temporaryFolder();
  const at = (name: string) => join(base.path, name);
  writeFileSync(at('half'), 'half');
  addUnfinished('cannot be removed', () => {
    throw new Error('EPERM');
  });
  addUnfinished(at('half'));
  removeUnfinishedOutput();
  assert.not.ok(existsSync(at('half')));
  mkdirSync(at('old/deep'), { recursive: true });
  for (const name of ['old/a', 'old/b', 'old/deep/c']) writeFileSync(at(name), name);
  const entries = listFolder(at('old'));
  writeFileSync(at('old/b'), 'changed since then');
  assert.is(removeEntries(at('old'), entries), false);
  assert.equal(readdirSync(at('old')), ['b']);
  assert.is(removeEntries(at('old'), listFolder(at('old'))), true);
});

test('what the file system would refuse in the end is refused at the beginning', async () => {
  using base = temporaryFolder();
  const boomed = async (out: string, words: RegExp) => {
    for (const write of [withOutputFolder, withOutputFile]) {
      assert.match(await rejectsWith(() => write(out, {}, boom), 'OUTPUT_FAILED'), words);
    }
  };
  for (const name of [
    'x'.repeat(256),
    '名'.repeat(86),
    join('new', 'x'.repeat(256)),
    join('x'.repeat(256), 'new'),
  ]) {
    await boomed(join(base.path, name), /the name is too long/);
  }
  // Long enough for the name of the output, not for those within it.
  let deep = base.path;
  while (Buffer.byteLength(deep) < 4020)
    deep = join(deep, 'd'.repeat(Math.min(200, 4030 - Buffer.byteLength(deep))));
  await boomed(join(deep, 'out'), /the name is too long/);
  if (existsSync('/proc/self')) await boomed('/proc/self/out', /cannot be written/);
  if (process.platform !== 'win32') {
    symlinkSync(join(base.path, 'nowhere'), join(base.path, 'broken'));
    await boomed(join(base.path, 'broken', 'out'), /its folder is not there/);
    rmSync(join(base.path, 'broken'));
  }
  assert.equal(readdirSync(base.path), []);
});

test('devices and the like are no outputs', async () => {
  for (const path of ['/dev/null', '/dev/stdout'].filter(existsSync)) {
    for (const write of [withOutputFolder, withOutputFile]) {
      await rejectsWith(() => write(path, { force: true }, boom), 'OUTPUT_EXISTS');
    }
  }
});

test('companions of long names have names of 255 bytes, each its own', () => {
  const [a, b] = ['名'.repeat(85), `${'名'.repeat(84)}字`].map(name =>
    companionPath(join('there', name), '.checkpoint'),
  );
  for (const path of [a!, b!]) {
    assert.ok(Buffer.byteLength(basename(path)) <= 255);
    assert.match(path, /^there.名+-[0-9a-f]{12}\.checkpoint$/);
  }
  assert.not.equal(a, b);
  assert.is(companionPath('out/', '.slurm'), 'out.slurm');
});

test.run();
