import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { RmError } from '../../engine/index.js';
import { formatBytes } from '../../engine/index.js';
import { invalidData, linesOf } from './textFiles.js';

/** What reading a file may take: much more than a sound file of its size does. */
const limitsFor = (size: number) => ({
  bytes: Math.min(512 * 2 ** 20 + 16 * size, Math.max(2 ** 31, totalmem() / 2)),
  /** Of computing from one row to the next. */
  seconds: 3 + Math.ceil(size / 1e6),
});

/** How much of what a reader said is kept: the end says why it ended. */
const SAID = 65_536;

// Found when it is started: a CommonJS bundle, which has no such address, loads all the same.
const program = (): string => fileURLToPath(new URL('./parquetProcess.js', import.meta.url));

function startReader(
  path: string,
  columns: readonly string[],
  { bytes, seconds }: ReturnType<typeof limitsFor>,
) {
  const { NODE_OPTIONS: _, ...env } = process.env;
  const heap = `--max-old-space-size=${Math.floor(bytes / 2 ** 20)}`;
  return spawn(process.execPath, [heap, program(), path, `${bytes}`, `${seconds}`, ...columns], {
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
    env,
  });
}

/** What a reader that ended early says of the file. */
function failure(
  path: string,
  size: number,
  { bytes, seconds }: ReturnType<typeof limitsFor>,
  said: string,
): RmError {
  const hostile = (what: string) =>
    invalidData(
      `${path}: reading it takes more than ${what}, too much for a file of ${formatBytes(size)}: it is damaged or hostile`,
      'Download the file again, or convert it to .jsonl where you trust it.',
    );
  if (said.endsWith('memory limit') || /heap|allocation|out of memory|fatal error/i.test(said)) {
    return hostile(`${formatBytes(bytes)} of memory`);
  }
  if (said.endsWith('time limit')) return hostile(`${seconds} s for a row`);
  const reason = said.trim().split('\n', 1)[0] || 'the reader ended without a word';
  return invalidData(
    `${path}: cannot be read as parquet: ${reason}`,
    'Download the file again, or convert it to .jsonl.',
  );
}

/**
 * Reads the rows of a parquet file as JSON, in which numbers of floating-point columns have a point. Another process reads
 * the file, within limits of memory and time, and no further than rows are asked for.
 *
 * @param wanted columns to read, where the file has them; default: all.
 * @param check is given the names of all columns.
 * @throws RmError DATA_INVALID, and what `check` throws.
 */
export async function* readParquetRows(
  path: string,
  wanted: readonly string[] = [],
  check: (columns: readonly string[]) => void = () => {},
): AsyncGenerator<{ bytes: Uint8Array; index: number }> {
  const { size } = await stat(path);
  const limits = limitsFor(size);
  const reader = startReader(path, wanted, limits);
  let said = '';
  reader.stderr.setEncoding('utf8').on('data', text => (said = `${said}${text}`.slice(-SAID)));
  const ended = once(reader, 'close').catch(error => [error.message]);
  try {
    let index = -1;
    // One row is held back: the last one may be cut where the reader was ended.
    let held: Uint8Array | undefined;
    for await (const { value } of linesOf(reader.stdout, path)) {
      if (index < 0) check(JSON.parse(Buffer.from(value).toString()) as string[]);
      else if (index > 0) yield { bytes: held!, index: index - 1 };
      held = value;
      index++;
    }
    const [code] = (await ended) as [unknown];
    if (code !== 0) throw failure(path, size, limits, said || String(code ?? ''));
    if (index > 0) yield { bytes: held!, index: index - 1 };
  } finally {
    reader.kill('SIGKILL');
  }
}
