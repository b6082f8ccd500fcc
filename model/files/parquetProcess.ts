/**
 * The program that parquetRows.ts starts: writes the rows of a parquet file to stdout as lines of JSON, the first line a
 * list of the file's columns. A process of its own, because the reader trusts what the file says of its sizes: a damaged
 * or hostile file makes it run for ever, fill the memory, or end Node with an error that cannot be caught.
 *
 * Arguments: file, most bytes of memory, most seconds of computing between two rows, and the wanted columns (all: none).
 */
import { once } from 'node:events';
import { open } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import { type AsyncBuffer, parquetMetadataAsync, parquetScan, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { parquetJson } from './parquetJson.js';

const [path = '', bytes, seconds, ...wanted] = process.argv.slice(2);

/** Rows of the first range that is read; each further one has GROWTH times as many. */
const FIRST_ROWS = 512;
const GROWTH = 8;

/** Counts rows; the watchdog looks whether it moves. */
const progress = new Int32Array(new SharedArrayBuffer(4));

// Ctrl-C goes to all processes of a terminal; the one that reads the rows decides when this one ends.
for (const signal of ['SIGINT', 'SIGHUP'] as const) process.on(signal, () => {});
const watchdog = new Worker(new URL('./watchdog.js', import.meta.url), {
  workerData: { progress, bytes: Number(bytes), seconds: Number(seconds), parent: process.ppid },
});
await once(watchdog, 'message');
watchdog.unref();

async function fileBuffer(): Promise<AsyncBuffer> {
  const file = await open(path);
  const { size } = await file.stat();
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      if (!(start >= 0 && end >= start && end <= size)) throw new Error('a part lies outside of the file');
      const part = new Uint8Array(end - start);
      let read = 0;
      while (read < part.length) {
        const { bytesRead } = await file.read(part, read, part.length - read, start + read);
        if (bytesRead === 0) throw new Error('the file has become shorter');
        read += bytesRead;
      }
      return part.buffer;
    },
  };
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Bytes that are no text stay bytes: whoever wants a text can name the row. */
function stringFromBytes(bytes: Uint8Array): string {
  try {
    return bytes && utf8.decode(bytes);
  } catch {
    return bytes as never;
  }
}

async function write(line: string): Promise<void> {
  if (!process.stdout.write(`${line}\n`)) await once(process.stdout, 'drain');
}

async function writeRows(): Promise<void> {
  const file = await fileBuffer();
  const metadata = await parquetMetadataAsync(file);
  const schemas = parquetSchema(metadata).children;
  await write(JSON.stringify(schemas.map(({ element }) => element.name)));
  const columns = schemas.filter(({ element }) => wanted.length === 0 || wanted.includes(element.name));
  // A column of JSON stays text: the one who reads the row decides what it is.
  const parsers = { stringFromBytes, jsonFromBytes: stringFromBytes };
  const names = columns.map(({ element }) => element.name);
  const scan = await parquetScan({ file, metadata, columns: names, compressors, parsers });
  for (const { rowStart: first, rowEnd: end } of scan.ranges) {
    for (let start = first, rows = FIRST_ROWS; start < end; start += rows, rows *= GROWTH) {
      const rowEnd = Math.min(end, start + rows);
      const values: ArrayLike<unknown>[] = [];
      for (const column of names) values.push(await scan.readColumn({ column, rowStart: start, rowEnd }));
      for (const [c, { length }] of values.entries()) {
        if (length !== rowEnd - start) throw new Error(`"${names[c]}" has fewer rows than the file says`);
      }
      for (let row = 0; row < rowEnd - start; row++) {
        const fields = columns.map(
          (schema, c) => `${JSON.stringify(names[c])}:${parquetJson(values[c]![row], schema)}`,
        );
        Atomics.add(progress, 0, 1);
        await write(`{${fields.join(',')}}`);
      }
    }
  }
}

try {
  await writeRows();
} catch (error) {
  // Other kinds of errors speak of the reader's variables.
  process.stderr.write((error as Error).constructor === Error ? (error as Error).message : 'it is damaged');
  process.exitCode = 1;
}
