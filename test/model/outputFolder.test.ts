import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  checkOutputFolder,
  copyOutputFile,
  removeLeftBy,
  withOutputFile,
  withOutputFolder,
  writeOutputFile,
} from '../../model/files/outputFolder.js';
import { removeUnfinishedOutput } from '../../model/files/unfinishedOutput.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

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
    assert.match(folder, /deep\/er\/\.out\.rm-engine-|deep\\er\\\.out\.rm-engine-/);
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
  const source = new URL('../../model/files/outputFolder.js', import.meta.url);
  const script = `import { ${how} } from '${source}';
    import { writeFileSync } from 'node:fs';
    await ${how}('${out}', { force: true }, async path => {
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
  assert.match(halfFile!, /^\.out\.gguf\.rm-engine-.*\.gguf$/);
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
  const stranger = stays('.out.rm-engine-notes');
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

test.run();
