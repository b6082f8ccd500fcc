import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readParquetRows } from '../../model/files/parquetRows.js';
import { readDocuments } from '../../model/text/documents.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { parquetFile, plain, varint } from './parquetFile.js';

// Files that claim what they do not hold: Node lives on, within limits of memory and time. Some 10 s of computing.

const watchdog = new URL('../../model/files/watchdog.js', import.meta.url);

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());
const path = join(folder.path, 'a.parquet');
const two = { bytes: plain('a', 'b'), values: 2 };

async function read(file: Buffer): Promise<string[]> {
  writeFileSync(path, file);
  const rows: string[] = [];
  for await (const { bytes } of readParquetRows(path)) rows.push(Buffer.from(bytes).toString());
  return rows;
}

/** One index, repeated. */
const repeated = (times: number) => [1, ...varint(2 * times), 0];
const dictionary = (text: string) => ({ bytes: plain(text), values: 1 });
const indices = (bytes: number[], values: number) => ({ bytes, values, encoding: 8 });

test('a sound file', async () => {
  assert.equal(await read(parquetFile({ page: two, rows: 2 })), ['{"text":"a"}', '{"text":"b"}']);
});

for (const [name, file, problem] of [
  ['rows that are not there', parquetFile({ page: two, rows: 2n ** 62n }), /fewer rows than the file says/],
  [
    'values that are not there',
    parquetFile({ page: { ...two, values: 2 ** 31 - 1 }, rows: 2 ** 31 - 1 }),
    /damaged/,
  ],
  ['a negative size', parquetFile({ page: { ...two, size: -5 }, rows: 2, codec: 1 }), /cannot be read/],
  [
    '2 GB in two bytes',
    parquetFile({
      page: { bytes: [...varint(2 ** 31 - 1), 0, 0], values: 2, size: 2 ** 31 - 1 },
      ...{ rows: 2, codec: 1 },
    }),
    /cannot be read/,
  ],
  [
    'a value for ever',
    parquetFile({
      page: indices(repeated(2 ** 31 - 1), 2 ** 31 - 1),
      ...{ dictionary: dictionary('a'), rows: 2 ** 31 - 1 },
    }),
    /a\.parquet: reading it takes more than (512 MiB of memory|4 s for a row), too much for a file of 137 B/,
  ],
] as const) {
  test(`a file that claims ${name}`, async () => {
    assert.match(await rejectsWith(() => read(file), 'DATA_INVALID'), problem);
  });
}

test('rows are read as they are asked for: a file of 90 KB that stands for 90 GB', async () => {
  const long = 'x'.repeat(90_000);
  const rows = 1_000_000;
  writeFileSync(
    path,
    parquetFile({ page: indices(repeated(rows), rows), dictionary: dictionary(long), rows }),
  );
  let count = 0;
  for await (const document of readDocuments(path)) {
    assert.is((document as { text: string }).text, long);
    if (++count === 1000) break;
  }
  assert.ok(process.memoryUsage.rss() < 1e9);
});

/** Starts a program that computes for ever under the watchdog's eyes, after it has said its id. */
function start(name: string, program: string) {
  const file = join(folder.path, name);
  writeFileSync(file, program);
  return spawn(process.execPath, [file]);
}
const busy = (seconds: number) => `
  import { Worker } from 'node:worker_threads';
  const workerData = { progress: new Int32Array(new SharedArrayBuffer(4)), bytes: 1e12, seconds: ${seconds}, parent: process.ppid };
  const watchdog = new Worker(new URL(${JSON.stringify(watchdog.href)}), { workerData });
  await new Promise(resolve => watchdog.once('message', resolve));
  console.log(process.pid);
  for (;;);`;

test('a process that computes too long is ended', async () => {
  const child = start('busy.mjs', busy(0.5));
  let said = '';
  child.stderr.on('data', chunk => (said += chunk));
  const [code] = await once(child, 'close');
  assert.is.not(code, 0);
  assert.is(said, 'time limit');
});

/** Whether a process runs; one that has ended and waits to be asked for its result does not. */
function runs(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== 'linux' || !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

test('a process that computes for ever ends with the one that started it', async () => {
  const file = join(folder.path, 'endless.mjs');
  writeFileSync(file, busy(1e6));
  const parent = start(
    'parent.mjs',
    `import { spawn } from 'node:child_process';
     spawn(process.execPath, [${JSON.stringify(file)}], { stdio: 'inherit' });`,
  );
  const [line] = await once(parent.stdout, 'data');
  const pid = Number(line);
  assert.ok(runs(pid));
  parent.kill('SIGKILL');
  // The test run's own limit ends a wait for ever.
  while (runs(pid)) await setTimeout(20);
});

test.run();
