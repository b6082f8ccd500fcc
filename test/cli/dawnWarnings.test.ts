/** Lines of Dawn on stderr, seen by spawned processes. Opens a device twice: about 2 s. */
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { shippedPath } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';

const built = (path: string) => fileURLToPath(new URL(`../../${path}`, import.meta.url));
const onLinux = process.platform === 'linux';

/** What a program prints, on stdout and on what stderr is redirected to, that writes to the descriptor of stderr, as native code does, within `withoutDawnWarnings`. */
function outputOf(written: string, options: object, redirection: string): string {
  using folder = temporaryFolder();
  const path = join(folder.path, 'program.mjs');
  writeFileSync(
    path,
    `import { writeSync } from 'node:fs';
    import { withoutDawnWarnings } from '${pathToFileURL(built('cli/terminal/dawnWarnings.js'))}';
    process.stderr.write('before\\n');
    const result = await withoutDawnWarnings(async () => { writeSync(2, ${JSON.stringify(written)}); return 'done'; }, ${JSON.stringify(options)});
    process.stderr.write(result + '\\n');
    process.stdout.write('out\\n');`,
  );
  const log = join(folder.path, 'log');
  writeFileSync(log, '');
  // A shell's pipes: Node's own are sockets.
  const to = redirection.replace('LOG', `"${log}"`);
  const { stdout } = spawnSync('sh', ['-c', `"${process.execPath}" "${path}" ${to} | cat`], {
    encoding: 'utf8',
  });
  return stdout + readFileSync(log, 'utf8');
}

const lowered =
  'Warning: maxDynamicUniformBuffersPerPipelineLayout artificially reduced from 1000000 to 16 to fit dynamic offset allocation limit.\n';

test('lines about limits vanish; what else was written is written when the work is done', () => {
  if (!onLinux) return;
  const others = 'MESA: error: something\nWarning: vkCreateInstance failed\n    at Create (instance.cpp:3)\n';
  const written = `${lowered}${others}${lowered}`;
  assert.is(outputOf(written, {}, '2>&1 >/dev/null'), `before\n${others}done\n`);
  assert.is(outputOf(written, { quiet: true }, '2>&1 >/dev/null'), 'before\nMESA: error: something\ndone\n');
});

test('a log that stdout and stderr share keeps every line, in order', () => {
  const whole = 'before\nnative\ndone\nout\n';
  assert.is(outputOf('native\n', {}, '> LOG 2>&1'), whole);
  assert.is(outputOf('native\n', {}, '2>&1'), whole);
});

test('commands: no line of Dawn; --quiet prints nothing on stderr', () => {
  if (!onLinux) return;
  const generate = `"${process.execPath}" "${built('cli/main.js')}" generate "${shippedPath('demo-model')}" The`;
  const stderrOf = (options: string) =>
    spawnSync('sh', ['-c', `${generate} --max-tokens 1 ${options} 2>&1 >/dev/null | cat`], {
      encoding: 'utf8',
    });
  const plain = stderrOf('').stdout;
  assert.match(plain, /^adapter: /m);
  assert.not.match(plain, /artificially reduced/);
  assert.is(stderrOf('--quiet').stdout, '');
});

test.run();
