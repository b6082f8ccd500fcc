import { asyncBufferFromFile, parquetMetadataAsync, parquetReadObjects, parquetSchema } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { invalidData } from './textFiles.js';

/**
 * Reads the rows of a parquet file, one row group at a time; `choose` picks from the file's columns. hyparquet itself
 * supports only Snappy; the compressors add gzip, Brotli, LZ4 and Zstandard.
 *
 * @throws RmError DATA_INVALID, and what `choose` throws.
 */
export async function* readParquetRows(
  path: string,
  choose: (columns: string[]) => string[],
): AsyncGenerator<{ row: Record<string, unknown>; index: number }> {
  const damaged = (error: unknown) =>
    invalidData(
      `${path}: cannot be read as parquet: ${(error as Error).message}`,
      'Download the file again, or convert it to .jsonl.',
      error,
    );
  const opened = await asyncBufferFromFile(path)
    .then(async file => ({ file, metadata: await parquetMetadataAsync(file) }))
    .catch(error => Promise.reject(damaged(error)));
  const { file, metadata } = opened;
  const columns = choose(parquetSchema(metadata).children.map(child => child.element.name));
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const options = { file, metadata, columns, rowStart, rowEnd, compressors };
    const rows = await parquetReadObjects(options).catch(error => Promise.reject(damaged(error)));
    for (const [i, row] of rows.entries()) yield { row, index: rowStart + i };
    rowStart = rowEnd;
  }
}
