// Runs every dist/test/**/*.test.js in a process of its own (a crash of the GPU driver fails one file, not the run)
// and closes with one line: 'N passed, N failed, N skipped'.
//   node scripts/test.mjs [--fast] [substring of file names ...]      --fast: the files of testSets.mjs
// RM_TEST_JOBS: processes at a time; default: one per core, as long as each has the memory it may need.
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { fast, slowest } from './testSets.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', 'dist', 'test');
const isFast = process.argv.includes('--fast');
const words = process.argv.slice(2).filter(word => word !== '--fast');
/** 'kernels/matmul' of 'kernels/matmul.test.js', on every platform. */
const stem = file => file.slice(0, -'.test.js'.length).replaceAll('\\', '/');

// Not readdir's own `recursive`, which Node 20.0 ignores.
const walk = folder =>
  readdirSync(join(root, folder), { withFileTypes: true }).flatMap(entry =>
    entry.isDirectory() ? walk(join(folder, entry.name)) : join(folder, entry.name),
  );
const rank = file => {
  const place = slowest.indexOf(stem(file));
  return place < 0 ? slowest.length : place;
};
const files = walk('')
  .filter(file => file.endsWith('.test.js'))
  .filter(file => !isFast || fast.includes(stem(file)))
  .filter(file => !words.length || words.some(word => file.replaceAll('\\', '/').includes(word)))
  .sort()
  .sort((a, b) => rank(a) - rank(b));

const cores = availableParallelism();
// Device memory of a software adapter included; a real model takes more than the tiny ones.
const memory = (process.env.RM_SMOLLM2 ? 4 : 1) * 2 ** 30;
const fitting = Math.max(1, Math.min(cores, Math.floor(totalmem() / memory)));
const jobs = Math.min(Number(process.env.RM_TEST_JOBS || fitting), files.length);
const threads = String(Math.max(1, Math.floor(cores / jobs)));
const env = {
  // lavapipe, and the torch that results are compared with, would start a thread per core in each process.
  LP_NUM_THREADS: threads,
  OMP_NUM_THREADS: threads,
  ...process.env,
  FORCE_COLOR: '0',
  ...(isFast && { RM_TEST_FAST: '1' }),
};

function runFile(file) {
  return new Promise(resolve => {
    const started = performance.now();
    const child = spawn(process.execPath, ['--enable-source-maps', join(root, file)], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env,
    });
    let output = '';
    child.stdout.on('data', data => (output += data));
    child.stderr.on('data', data => (output += data));
    child.on('close', (status, signal) => {
      const count = word => Number(output.match(new RegExp(`^ *${word}: +(\\d+)`, 'm'))?.[1] ?? 0);
      // A file tells what it leaves out in lines 'skip: ...'.
      const skips = output.match(/^skip: .*$/gm) ?? [];
      const [total, passed, skipped] = [count('Total'), count('Passed'), count('Skipped')];
      // uvu's total leaves out what `test.skip` skipped.
      const failed = total - passed;
      // A driver that crashes leaves no count behind.
      const crashed = status !== 0 && failed === 0 ? 1 : 0;
      resolve({
        file,
        output,
        status,
        signal,
        passed,
        skipped: Math.max(skipped, skips.length),
        skips,
        failed: failed + crashed,
        seconds: (performance.now() - started) / 1000,
      });
    });
  });
}

const totals = { passed: 0, failed: 0, skipped: 0 };
async function worker() {
  for (let file = files.shift(); file; file = files.shift()) {
    const result = await runFile(file);
    for (const key of Object.keys(totals)) totals[key] += result[key];
    const state = result.failed ? `FAILED (exit ${result.status ?? result.signal})` : 'ok';
    console.log(
      `${file.padEnd(44)} ${state}  ${result.passed} passed, ${result.skipped} skipped, ${result.seconds.toFixed(1)} s`,
    );
    const details = result.failed ? result.output : result.skips.join('\n');
    if (details) console.log(details.replace(/^/gm, '    '));
  }
}
if (!files.length) {
  console.error(`no test file matches ${words.join(' ')}`);
  process.exit(1);
}
await Promise.all(Array.from({ length: jobs }, worker));
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed ? 1 : 0;
