// Prints the time that the phases of a prune take, as planned and as it was, in seconds and as shares: with a full report, without
// anything known of earlier runs, and then with the report that is chosen by itself; with --report only that. Expects a build.
// With RM_CPU_TIME=1 the seconds are those of the processor, on one thread, so that other programs on the machine matter less.
//   node scripts/reportShares.mjs MODEL [options of prune]
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const main = join(dirname(fileURLToPath(import.meta.url)), '../dist/cli/main.js');
const [model, ...options] = process.argv.slice(2);
if (!model) throw new Error('usage: node scripts/reportShares.mjs MODEL [options of prune]');

/** Makes performance.now the processor's time of the process. */
const clock = `const start = process.cpuUsage();
performance.now = () => { const { user, system } = process.cpuUsage(start); return (user + system) / 1000; };`;
const onCpu = process.env.RM_CPU_TIME === '1';
const words = onCpu ? ['--import', `data:text/javascript,${encodeURIComponent(clock)}`] : [];

const folder = mkdtempSync(join(tmpdir(), 'rm-engine-shares-'));
const percent = share => `${(100 * share).toFixed(0)} %`;
const secondsOf = phases => phases.reduce((sum, { seconds }) => sum + seconds, 0);

/** Prunes with a cache of its own, in which nothing but earlier runs of this script is known. */
function run(name, report) {
  const out = join(folder, name);
  execFileSync(process.execPath, [...words, main, 'prune', model, out, ...options, ...report, '--quiet'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, XDG_CACHE_HOME: join(folder, 'cache'), ...(onCpu && { LP_NUM_THREADS: '1' }) },
  });
  return JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
}

try {
  const given = options.includes('--report');
  const runs = given ? [run('given', [])] : [run('full', ['--report', 'full']), run('chosen', [])];
  const time = (part, all) => `${part.toFixed(1)} s, ${percent(part / all)}`;
  console.log('| report | phase | planned | measured |\n| --- | --- | --: | --: |');
  for (const { extent, phases, plan, seconds } of runs) {
    const planned = secondsOf(plan.phases);
    for (const { name, seconds: took } of phases) {
      const expected = plan.phases.find(phase => phase.name === name)?.seconds ?? 0;
      console.log(`| ${extent.extent} | ${name} | ${time(expected, planned)} | ${time(took, seconds)} |`);
    }
    const tokens = extent.extent === 'light' ? `, ${percent(extent.tokenShare)} of the tokens` : '';
    console.log(`| ${extent.extent}${tokens} | planned / measured | ${(planned / seconds).toFixed(2)} | |`);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
