import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/** The machine as far as it says how much memory there is; tests make up their own. */
export interface MachineFacts {
  readonly platform: string;
  readonly arch: string;
  totalMemory(): number;
  freeMemory(): number;
  /** A file's text; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** Names in a folder; none if it does not exist. */
  list(folder: string): string[];
  /** What a program prints; undefined where it is missing, fails or takes longer than ten seconds. */
  run(program: string, args: readonly string[]): Promise<string | undefined>;
}

/** nvidia-smi starts a driver that nobody keeps loaded, which takes some seconds. */
const PATIENCE_MS = 10_000;

export const thisMachine: MachineFacts = {
  platform: process.platform,
  arch: process.arch,
  totalMemory: totalmem,
  freeMemory: freemem,
  read: path => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  list: folder => {
    try {
      return readdirSync(folder).sort();
    } catch {
      return [];
    }
  },
  run: (program, args) =>
    new Promise(resolve => {
      execFile(program, args, { timeout: PATIENCE_MS, windowsHide: true }, (error, output) =>
        resolve(error ? undefined : output),
      );
    }),
};

/** Memory in bytes that this process may use. */
export interface HostMemory {
  /** Of the machine, or the container's limit where that is lower. */
  readonly total: number;
  readonly free: number;
  /** Whether a container's limit (cgroup) leaves less than the machine. */
  readonly limited: boolean;
}

/** Files of the memory controller in cgroup v2 and v1, below one folder. */
const versions = [
  { limits: ['memory.max', 'memory.high'], used: 'memory.current', cache: 'inactive_file' },
  { limits: ['memory.limit_in_bytes'], used: 'memory.usage_in_bytes', cache: 'total_inactive_file' },
] as const;

/** The folder itself and those above it, up to `root`. */
function foldersUp(root: string, path: string): string[] {
  const folders = [root];
  for (let at = path; at !== '/' && at !== '.'; at = dirname(at)) folders.push(join(root, at));
  return folders;
}

/** Limit and free bytes of each group that this process belongs to: a group's limit holds for all groups within it. */
function groupLimits({ read }: MachineFacts): { limit: number; free: number }[] {
  const lines = (read('/proc/self/cgroup') ?? '').split('\n').map(line => line.split(':'));
  return versions.flatMap(({ limits, used, cache }, v1) => {
    const line = lines.find(([, controllers]) =>
      v1 ? controllers?.split(',').includes('memory') : controllers === '',
    );
    if (!line) return [];
    const root = v1 ? '/sys/fs/cgroup/memory' : '/sys/fs/cgroup';
    return foldersUp(root, line.slice(2).join(':')).flatMap(folder => {
      const bytes = (name: string) => Number.parseInt(read(join(folder, name)) ?? '', 10);
      const limit = Math.min(...limits.map(bytes).filter(Number.isFinite));
      if (!Number.isFinite(limit)) return [];
      // Pages of files that nobody reads at present make room for others.
      const stat = read(join(folder, 'memory.stat')) ?? '';
      const reclaimed = Number(stat.match(new RegExp(`^${cache} (\\d+)`, 'm'))?.[1] ?? 0);
      return [{ limit, free: Math.max(0, limit - Math.max(0, (bytes(used) || 0) - reclaimed)) }];
    });
  });
}

/** macOS counts pages of files and of idle programs as used: `vm_stat` tells them apart. */
async function freeOnMac({ run, freeMemory }: MachineFacts): Promise<number> {
  const text = (await run('vm_stat', [])) ?? '';
  const page = Number(text.match(/page size of (\d+) bytes/)?.[1] ?? 0);
  const pages = ['free', 'inactive', 'speculative'].map(kind =>
    Number(text.match(new RegExp(`Pages ${kind}: +(\\d+)`))?.[1] ?? 0),
  );
  return page * pages.reduce((sum, count) => sum + count, 0) || freeMemory();
}

/** The host's memory within the limits of the machine and of the containers around this process (cgroup v1 and v2). */
export async function hostMemory(machine: MachineFacts = thisMachine): Promise<HostMemory> {
  const total = machine.totalMemory();
  const free = machine.platform === 'darwin' ? await freeOnMac(machine) : machine.freeMemory();
  const groups = machine.platform === 'linux' ? groupLimits(machine) : [];
  const limit = Math.min(total, ...groups.map(group => group.limit));
  return {
    total: limit,
    free: Math.min(free, limit, ...groups.map(group => group.free)),
    limited: limit < total,
  };
}
