import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { PruneOptions, PruneReport } from '../replaceme/index.js';

/** A prune in a process of its own, watched from outside. */
export interface WatchedRun {
  readonly report: PruneReport;
  /** Most resident bytes of the software adapter's device memory, at any of the samples. */
  readonly deviceBytes: number;
  readonly samples: number;
}

const INTERVAL_MS = 50;
/** lavapipe allocates device memory in files of this name that exist only in memory. */
const DEVICE_MEMORY = /memfd:allocation fd/;

/** Resident bytes of a process's device memory on lavapipe; undefined once the process has ended. */
export function deviceResidence(pid: number): number | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/smaps`, 'utf8');
  } catch {
    return undefined;
  }
  let kilobytes = 0;
  let counts = false;
  for (const line of text.split('\n')) {
    if (/^[0-9a-f]+-[0-9a-f]+ /.test(line)) counts = DEVICE_MEMORY.test(line);
    else if (counts && line.startsWith('Rss:')) kilobytes += Number(line.match(/\d+/)![0]);
  }
  return 1024 * kilobytes;
}

/** Prunes in a process of its own and samples its device memory every 50 ms. */
export async function pruneWatched(from: string, to: string, options: PruneOptions): Promise<WatchedRun> {
  const script = fileURLToPath(new URL('./pruneInChild.js', import.meta.url));
  const child = spawn(process.execPath, [script, from, to, JSON.stringify(options)]);
  const [out, err]: string[][] = [[], []];
  child.stdout.setEncoding('utf8').on('data', text => out!.push(text));
  child.stderr.setEncoding('utf8').on('data', text => err!.push(text));
  const ended = new Promise<number | null>(resolve => child.on('close', resolve));
  let [deviceBytes, samples] = [0, 0];
  const timer = setInterval(() => {
    deviceBytes = Math.max(deviceBytes, deviceResidence(child.pid!) ?? 0);
    samples++;
  }, INTERVAL_MS);
  const status = await ended;
  clearInterval(timer);
  if (status !== 0) throw new Error(err!.join(''));
  return { report: JSON.parse(out!.join('')).report, deviceBytes, samples };
}
