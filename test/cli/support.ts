import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Output, Terminal, type TerminalOptions } from '../../cli/terminal/terminal.js';
import { cacheFolder } from '../../engine/cacheFolder.js';

const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));

export interface CommandResult {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface SpawnOptions {
  input?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** Sends SIGINT this long after the first output on stderr. */
  interruptAfterMs?: number;
  /** Stops reading stdout after the first output, as `| head -1` does. */
  closeStdoutEarly?: boolean;
}

/**
 * The environment of a command that caches in `folder` and sees none of the user's measurements. Unpacked drivers and
 * compiled shaders are still shared.
 */
export function ownCache(folder: string): Record<string, string> {
  const [ownFolder, userFolder] = [join(folder, 'rm-engine'), cacheFolder()];
  mkdirSync(ownFolder, { recursive: true });
  for (const name of existsSync(userFolder) ? readdirSync(userFolder) : []) {
    const link = join(ownFolder, name);
    if (/^swiftshader-[\d.]+$/.test(name) && !existsSync(link)) symlinkSync(join(userFolder, name), link);
  }
  const { MESA_SHADER_CACHE_DIR, XDG_CACHE_HOME } = process.env;
  return {
    XDG_CACHE_HOME: folder,
    MESA_SHADER_CACHE_DIR: MESA_SHADER_CACHE_DIR ?? XDG_CACHE_HOME ?? join(homedir(), '.cache'),
  };
}

/** Dawn's warnings about limits that it lowers; nothing can silence them. */
const dawnWarning =
  /^Warning: (max\w+ artificially reduced|vkCreateInstance|Couldn't load Vulkan).*\n( {4}at .*\n\n?)?/gm;

/** Runs `rm-engine ARGS` in its own process. */
export function rmEngine(args: readonly string[], options: SpawnOptions = {}): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const { RM_ENGINE_DEBUG: _, ...env } = process.env;
    const child = spawn(process.execPath, [main, ...args], {
      env: { ...env, ...options.env },
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', text => {
      stdout += text;
      if (options.closeStdoutEarly) child.stdout.destroy();
    });
    let timer: NodeJS.Timeout | undefined;
    child.stderr.setEncoding('utf8').on('data', text => {
      stderr += text;
      if (options.interruptAfterMs !== undefined) {
        timer ??= setTimeout(() => child.kill('SIGINT'), options.interruptAfterMs);
      }
    });
    child.on('error', reject);
    child.on('close', status => {
      clearTimeout(timer);
      resolve({ status, stdout, stderr: stderr.replace(dawnWarning, '') });
    });
    child.stdin.end(options.input ?? '');
  });
}

/** A terminal that records its output. */
export function recordingTerminal(
  options: Omit<TerminalOptions, 'stdout' | 'stderr'> & { isTTY?: boolean } = {},
): { terminal: Terminal; stdout: () => string; stderr: () => string; resize: (columns: number) => void } {
  let columns = 80;
  const output = (): Output & { text: string } => ({
    isTTY: options.isTTY ?? false,
    get columns() {
      return columns;
    },
    text: '',
    write(text: string) {
      this.text += text;
    },
  });
  const [stdout, stderr] = [output(), output()];
  return {
    terminal: new Terminal({ env: {}, ...options, stdout, stderr }),
    stdout: () => stdout.text,
    stderr: () => stderr.text,
    resize: width => {
      columns = width;
    },
  };
}
