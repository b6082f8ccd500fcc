// Runs commands in a root with Mesa 26 (../shared/gpu/codegen/mesa26.sh), in which GPUs exist by name.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const top = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Groups of processes that run; they end with this one. */
const running = new Set();
process.on('exit', () => {
  for (const pid of running) process.kill(-pid, 'SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/**
 * Runs a command on a chip, in a process group of its own. `checkout` is what the command sees as /work.
 *
 * @returns what it printed, and `end`, why it ended otherwise than well, if it did.
 */
export function runOn(root, chip, command, { variables = {}, seconds, checkout = top }) {
  return new Promise(done => {
    const started = performance.now();
    const child = spawn(
      join(top, '../shared/gpu/codegen/mesa26.sh'),
      [root, '/codegen/fake.sh', chip, ...command],
      {
        cwd: checkout,
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, ...variables },
      },
    );
    let [out, log, end] = ['', '', undefined];
    const timer = setTimeout(() => {
      end = `cut off after ${seconds} s`;
      process.kill(-child.pid, 'SIGKILL');
    }, 1000 * seconds);
    if (child.pid) running.add(child.pid);
    child.stdout.on('data', data => (out += data));
    child.stderr.on('data', data => (log += data));
    child.on('error', error => (end = error.message));
    child.on('close', (status, signal) => {
      clearTimeout(timer);
      running.delete(child.pid);
      if (status !== 0) end ??= `ended with ${signal ?? `exit code ${status}`}`;
      done({ out, log, end, seconds: (performance.now() - started) / 1000 });
    });
  });
}

/** The sum of some of a pipeline's statistics, which drivers name each in their own way; undefined where it has none. */
export const statistic = (line, names) =>
  line
    .split('|')
    .map(part => part.split('='))
    .filter(([name]) => names.includes(name))
    .reduce((total, [, value]) => (total ?? 0) + Number(value), undefined);
