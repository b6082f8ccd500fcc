/** What work on untrusted input does to its own process stays there. About 5 seconds. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { setTimeout as wait } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { IsolatedProcess } from '../../model/files/isolatedProcess.js';

const worker = new URL('./isolatedTestWorker.js', import.meta.url);

/** The message of the error that a request ends with. */
const failure = (process_: IsolatedProcess, deed: string): Promise<string> =>
  process_.request(deed).then(
    () => assert.unreachable(`${deed} succeeds`) as never,
    (error: Error) => error.message,
  );

/** Whether a process still runs: one that has ended may wait for its parent to take notice. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !existsSync(`/proc/${pid}`) || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

async function ends(pid: number): Promise<void> {
  for (let i = 0; i < 200 && isAlive(pid); i++) await wait(50);
  assert.not.ok(isAlive(pid), `process ${pid} has not ended`);
}

test('answers and errors come back', async () => {
  const isolated = new IsolatedProcess(worker);
  const [answer, error] = await Promise.all([isolated.request('answer'), failure(isolated, 'fail')]);
  assert.equal(answer, new Uint32Array([1, 2]));
  assert.is(error, 'as told');
  const pid = (await isolated.request('pid')) as number;
  isolated.stop();
  await ends(pid);
  assert.match(await failure(isolated, 'answer'), /stopped/);
});

test('a crash, an exit, an endless loop and full memory end the request only', async () => {
  for (const [deed, wanted] of [
    ['crash', /^it crashed/],
    ['exit', /^it crashed \(exit code 3\)/],
    ['loop', /^it takes too much time/],
    ['fill', /^it takes too much memory/],
  ] as const) {
    const isolated = new IsolatedProcess(worker);
    const waiting = failure(isolated, 'answer').catch(() => '');
    assert.match(await failure(isolated, deed), wanted, deed);
    await waiting;
    assert.match(await failure(isolated, 'answer'), wanted, 'later requests are told the same');
  }
});

/** A program that starts an isolated process and prints its id. */
const program = (then: string) => `
  import { IsolatedProcess } from ${JSON.stringify(new URL('../../model/files/isolatedProcess.js', import.meta.url).href)};
  const isolated = new IsolatedProcess(new URL(${JSON.stringify(worker.href)}));
  console.log(await isolated.request('pid'));
  ${then}
`;

test('it does not keep the program alive, and ends with it, however that ends', async () => {
  for (const [then, signal] of [
    ['', undefined],
    ['process.exit(0)', undefined],
    ['await isolated.request("loop")', 'SIGKILL'],
    ['await isolated.request("loop")', 'SIGINT'],
  ] as const) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', program(then)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [first] = (await once(child.stdout, 'data')) as [Buffer];
    if (signal) child.kill(signal);
    await Promise.all([once(child, 'close'), text(child.stdout)]);
    await ends(Number(first.toString()));
  }
});

test.run();
