import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The adapters of this machine, as another process saw them. */
export interface AdapterListing {
  readonly names: readonly string[];
  /** How the process ended, if it was by a crash or for lack of time. */
  readonly crashed?: string;
}

const PATIENCE_MS = 60_000;

/** Lists the adapters and opens the chosen one in a child process: a driver that crashes ends only that. */
export function adapterListing(
  adapter: string | undefined,
  program = fileURLToPath(new URL('./adapterChild.js', import.meta.url)),
): Promise<AdapterListing> {
  return new Promise(resolve => {
    const child = spawn(process.execPath, [program, adapter ?? process.env.RM_ENGINE_ADAPTER ?? ''], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: PATIENCE_MS,
      killSignal: 'SIGKILL',
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', part => {
      text += part;
    });
    child.on('error', error => resolve({ names: [], crashed: error.message }));
    child.on('close', (code, signal) => {
      const listed = text.split('\n').find(line => line.startsWith('{"names"'));
      const names = listed ? (JSON.parse(listed) as { names: string[] }).names : [];
      if (code === 0) return resolve({ names });
      const when = listed ? 'while an adapter was opened' : 'while adapters were listed';
      const how =
        signal === 'SIGKILL' ? `no answer in ${PATIENCE_MS / 1000} s` : (signal ?? `exit code ${code}`);
      resolve({ names, crashed: `${how} ${when}` });
    });
  });
}
