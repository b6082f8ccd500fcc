import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { type PruneOptions, type PruneReport, prune } from '../replaceme/index.js';

/** What a run in a process of its own has come to. */
export interface ChildRun {
  readonly report: PruneReport;
  /** Most host memory of the process, the software adapter's device memory included. */
  readonly residentBytes: number;
}

/** Prunes in a process of its own, so that its memory can be told from the test's. */
export function pruneInChild(from: string, to: string, options: PruneOptions): ChildRun {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [fileURLToPath(import.meta.url), from, to, JSON.stringify(options)],
    { encoding: 'utf8', maxBuffer: 2 ** 26 },
  );
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout) as ChildRun;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [from, to, options] = process.argv.slice(2);
  const report = await prune(from!, to!, JSON.parse(options!));
  const run: ChildRun = { report, residentBytes: 1024 * process.resourceUsage().maxRSS };
  process.stdout.write(JSON.stringify(run));
}
