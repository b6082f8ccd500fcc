// Prints the shares of a prune's time that its phases take, as planned and as they were: with a full report, without anything
// known of earlier runs, and then with the report that is chosen by itself. Expects a build.
//   node scripts/reportShares.mjs MODEL [options of prune]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = join(dirname(fileURLToPath(import.meta.url)), '../dist/cli/main.js');
const [model, ...options] = process.argv.slice(2);
if (!model) throw new Error('usage: node scripts/reportShares.mjs MODEL [options of prune]');

const folder = mkdtempSync(join(tmpdir(), 'rm-engine-shares-'));
const percent = share => `${(100 * share).toFixed(0)} %`;
const secondsOf = phases => phases.reduce((sum, { seconds }) => sum + seconds, 0);

/** Prunes with a cache of its own, in which nothing but earlier runs of this script is known. */
function run(name, report) {
  const out = join(folder, name);
  execFileSync(process.execPath, [main, 'prune', model, out, ...options, ...report, '--quiet'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, XDG_CACHE_HOME: join(folder, 'cache') },
  });
  return JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
}

try {
  const runs = [run('full', ['--report', 'full']), run('chosen', [])];
  console.log('| report | phase | planned | measured |\n| --- | --- | --: | --: |');
  for (const { extent, phases, plan, seconds } of runs) {
    const planned = secondsOf(plan.phases);
    for (const { name, seconds: took } of phases) {
      const expected = plan.phases.find(phase => phase.name === name)?.seconds ?? 0;
      console.log(
        `| ${extent.extent} | ${name} | ${percent(expected / planned)} | ${percent(took / seconds)} |`,
      );
    }
    const tokens = extent.extent === 'light' ? `, ${percent(extent.tokenShare)} of the tokens` : '';
    console.log(`| ${extent.extent}${tokens} | planned / measured | ${(planned / seconds).toFixed(2)} | |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
