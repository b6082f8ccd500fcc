// What a run that saves state does with folders and files that are not its own. Without a device; costs 0.5 s.
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { finishedReport } from '../../replaceme/report/finishedReport.js';
import { CheckpointFolder } from '../../replaceme/resume/checkpointFolder.js';
import { checkpointPath, markFinished, openJournal } from '../../replaceme/resume/pruneCheckpoint.js';
import { checkRunFolder, holdsState } from '../../replaceme/resume/runFolder.js';
import { RunJournal } from '../../replaceme/resume/runJournal.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { treeOf } from '../treeOf.js';

const device = undefined as never;
const large = async () => new Uint8Array(100_000).fill(7);

/** A folder for an output with the state of a run that has saved one step. */
async function stopped(out: string): Promise<string> {
  const path = checkpointPath(out);
  const journal = RunJournal.begin(device, path, { every: 0 });
  await journal.step('step', large);
  assert.is(await journal.leave(), true);
  return path;
}

/** What the user has put into a folder of ours. */
function addThings(path: string): Record<string, string> {
  mkdirSync(join(path, 'photos'));
  mkdirSync(join(path, 'c'.repeat(64)));
  for (const name of ['notes.txt', 'photos/a.jpg', 'lockpick.txt', 'my.part', 'state.json.bak']) {
    writeFileSync(join(path, name), 'mine');
  }
  const { 'state.json': _, ...all } = treeOf(path);
  return Object.fromEntries(
    Object.entries(all).filter(([name]) => !/^[0-9a-f]{64}$/.test(name) || all[name] === 'folder'),
  );
}

test('other files in the folder of a run survive its resume, its end and a restart', async () => {
  using place = temporaryFolder();
  for (const how of ['resume', 'restart'] as const) {
    const out = join(place.path, how);
    const path = await stopped(out);
    const things = addThings(path);
    const journal = await openJournal(device, out, { [how]: true, checkpointEvery: 0 });
    await journal!.step('step', large);
    await journal!.finish();
    assert.equal(treeOf(path), things);
    // Now the folder is the user's.
    await rejectsWith(() => checkRunFolder(path), 'OUTPUT_EXISTS');
  }
});

test('a folder that appears before the first save is left alone; the run goes on without a state', async () => {
  using place = temporaryFolder();
  const path = join(place.path, 'out.checkpoint');
  const said: string[] = [];
  const journal = RunJournal.begin(device, path, { every: 0, onFailure: text => said.push(text) });
  mkdirSync(path);
  writeFileSync(join(path, 'a.jpg'), 'a photo');
  const before = treeOf(place.path);
  await journal.step('step', large);
  await journal.finish();
  assert.equal(treeOf(place.path), before);
  assert.is(said.length, 1);
  assert.match(said[0]!, /this is not of rm-engine/);
});

test('a folder that is removed while the run works: the message says so, and the output is finished', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'parent', 'out');
  const said: string[] = [];
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'report.json'), '{}');
  const journal = RunJournal.begin(device, checkpointPath(out), {
    every: 0,
    onFailure: text => said.push(text),
  });
  await journal.step('step', large);
  rmSync(checkpointPath(out), { recursive: true });
  await journal.step('next step', large);
  assert.is(said.length, 1);
  assert.match(said[0]!, /out\.checkpoint: the folder, or the lock of this run in it, was removed/);
  assert.not.match(said[0]!, /another run/);
  await markFinished(journal, out, out);
  await journal.finish();
  assert.equal(treeOf(place.path), {
    parent: 'folder',
    'parent/out': 'folder',
    ...Object.fromEntries(
      Object.entries(treeOf(place.path)).filter(([name]) => name.endsWith('report.json')),
    ),
  });
});

test('what a run leaves that is killed during its first save goes with the next run', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'out');
  const path = await stopped(out);
  rmSync(join(path, 'state.json'));
  const uuid = '01234567-89ab-cdef-0123-456789abcdef';
  for (const name of [`${uuid}.part`, `lock-${uuid}`, `lock-${uuid}-dead`])
    writeFileSync(join(path, name), '');
  const lock = { token: uuid, pid: 2 ** 22 + 1, host: hostname() };
  writeFileSync(join(path, 'lock'), JSON.stringify({ ...lock, pid: process.ppid }));
  await checkRunFolder(path);
  await rejectsWith(async () => openJournal(device, out, {}), 'OUTPUT_EXISTS');
  writeFileSync(join(path, 'lock'), JSON.stringify(lock));
  await openJournal(device, out, {});
  assert.equal(readdirSync(place.path), []);
});

test('a process that is killed while it removes the state of a finished run leaves one that says so', async () => {
  using place = temporaryFolder();
  const out = join(place.path, 'out');
  mkdirSync(out);
  writeFileSync(join(out, 'report.json'), '{"kind": "prune"}');
  const path = await stopped(out);
  const journal = await RunJournal.resume(device, path, { every: 0 });
  await journal.step('step', large);
  await markFinished(journal, out, out);
  await journal.leave();
  for (const name of readdirSync(path)) if (name !== 'state.json') rmSync(join(path, name));
  assert.ok(holdsState(path));
  assert.equal(await finishedReport(out), { kind: 'prune' });
  assert.not(existsSync(path));
});

test('a damaged state is a state all the same; one of another program is not', async () => {
  using place = temporaryFolder();
  const path = await stopped(join(place.path, 'out'));
  const { folder, state } = await CheckpointFolder.open(path);
  await folder.close();
  assert.ok(state);
  for (const [text, ours] of [
    ['{"format":"rm-engine checkpoint 99","sha256":"0"}\n', true],
    ['{"format":"rm-engine checkpoint 1","sha', true],
    ['{"format":"rm-engine checkpoints","sha', false],
    ['', false],
    ['{"step": 7}', false],
  ] as const) {
    writeFileSync(join(path, 'state.json'), text);
    assert.is(holdsState(path), ours, text);
    await checkRunFolder(path).then(
      () => assert.ok(ours, text),
      error => assert.equal([error.code, ours], ['OUTPUT_EXISTS', false], text),
    );
  }
});

test.run();
