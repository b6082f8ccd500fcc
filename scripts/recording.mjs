// Writes docs/recording.md: what a prune of the demo model prints on a terminal of 80 columns, the moving line once every
// ten seconds. Expects a build, and `script` of util-linux, which gives the run a terminal.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const command = 'prune demo-model pruned --layers 3';
/** Seconds between two pictures of the moving line. */
const BETWEEN = 10;

/** What the command writes to its terminal. */
function recorded(folder) {
  symlinkSync(join(root, 'assets/demo-model'), join(folder, 'demo-model'));
  const run = `stty cols 80; "${process.execPath}" "${join(root, 'dist/cli/main.js')}" ${command}`;
  const { status } = spawnSync('script', ['--quiet', '--return', '--command', run, 'typescript'], {
    cwd: folder,
    stdio: 'ignore',
    env: { ...process.env, XDG_CACHE_HOME: join(folder, 'cache') },
  });
  const text = readFileSync(join(folder, 'typescript'), 'utf8');
  if (status !== 0) throw new Error(text);
  return text.replace(/^Script started.*\n/, '').replace(/\n?Script done.*\n*$/, '');
}

/** The lines that stay, and of those that are overwritten one in every `BETWEEN` seconds. */
function lines(text) {
  let next = 0;
  return stripVTControlCharacters(text)
    .split('\r\n')
    .flatMap(line => {
      const frames = line.split('\r');
      const moving = frames.slice(0, -1).filter(frame => {
        const [, minutes, seconds] = /(\d+):(\d\d) elapsed/.exec(frame) ?? [];
        const at = 60 * minutes + Number(seconds);
        if (!(at >= next)) return false;
        next = at + BETWEEN;
        return true;
      });
      return [...moving, frames.at(-1)];
    })
    .join('\n')
    .trim();
}

const folder = mkdtempSync(join(tmpdir(), 'rm-engine-recording-'));
try {
  writeFileSync(
    join(root, 'docs/recording.md'),
    `# What a prune prints

\`node scripts/recording.mjs\` wrote this page: the demo model, on a terminal of 80 columns. Lines that tell the time left are one line on the
screen, which moves several times a second; here it is shown every ${BETWEEN} seconds.

\`\`\`
$ rm-engine ${command}
${lines(recorded(folder))}
\`\`\`
`,
  );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
