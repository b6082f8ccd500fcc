import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { anything, brokenSeal, type Formed, RmError, record, sealed, tableOf } from '../../engine/index.js';
import { outputError, readJsonFileIfPresent, withOutputFile, writeOutputFile } from '../../model/index.js';

const rowForm = record({ key: tableOf(anything), row: tableOf(anything) });

/** What all rows depend on; plain JSON, compared name by name. */
export type ComparisonKey = Readonly<Record<string, unknown>>;

/** The rows of a comparison in DIR/rows, each with the key it was made under. Without a folder it stores nothing. */
export class RowStore {
  readonly #folder: string | undefined;
  readonly #key: ComparisonKey;

  constructor(out: string | undefined, key: ComparisonKey) {
    this.#folder = out === undefined ? undefined : join(out, 'rows');
    // As it looks after a round trip through JSON.
    this.#key = JSON.parse(JSON.stringify(key)) as ComparisonKey;
  }

  /** Creates the folder: if it cannot be written, the user learns it now. @throws RmError OUTPUT_FAILED. */
  async open(): Promise<void> {
    const folder = this.#folder;
    if (folder === undefined) return;
    await mkdir(folder, { recursive: true }).catch(error => Promise.reject(outputError(error, folder)));
  }

  /**
   * The row `name`; undefined where it has not been made.
   *
   * @param force ignores a row that was made under another key, or is damaged.
   * @throws RmError OUTPUT_EXISTS naming what differs; CONFIG_INVALID for a file that is no row.
   */
  async read<Row>(name: string, force: boolean): Promise<Row | undefined> {
    if (this.#folder === undefined) return undefined;
    const path = this.#path(name);
    const stored = await readJsonFileIfPresent(path).catch(error => {
      if (force) return undefined;
      throw error;
    });
    if (stored === undefined) return undefined;
    const problem = brokenSeal(stored) ?? rowForm(stored, '');
    if (problem && force) return undefined;
    if (problem) {
      const fix = 'Remove the file, or add `force`, and the row is made again.';
      throw new RmError(
        'CONFIG_INVALID',
        `${path}: is no row of a comparison as it was written: ${problem}`,
        fix,
      );
    }
    const { key, row } = stored as Formed<typeof rowForm>;
    const differences = this.#differences(key);
    if (differences.length === 0) return row as Row;
    if (force) return undefined;
    throw new RmError(
      'OUTPUT_EXISTS',
      `${path}: the row was made with other settings: ${differences.join('; ')}`,
      'Repeat its settings, choose another `out`, or add `force` to make such rows again.',
    );
  }

  /** Writes a row; a crash leaves no partial file. @throws RmError OUTPUT_FAILED. */
  async write(name: string, row: object): Promise<void> {
    if (this.#folder === undefined) return;
    await writeWhole(this.#path(name), `${JSON.stringify(sealed({ key: this.#key, row }), null, 2)}\n`);
  }

  #path(name: string): string {
    return join(this.#folder!, `${name}.json`);
  }

  #differences(stored: Readonly<Record<string, unknown>>): string[] {
    const text = (value: unknown) => JSON.stringify(value) ?? 'not given';
    return [...new Set([...Object.keys(stored), ...Object.keys(this.#key)])]
      .map(name => [name, text(stored[name]), text(this.#key[name])] as const)
      .filter(([, before, now]) => before !== now)
      .map(([name, before, now]) => `${name} was ${before}, is now ${now}`);
  }
}

/** Writes a temporary file and renames it. @throws RmError OUTPUT_FAILED. */
export const writeWhole = (path: string, text: string): Promise<void> =>
  withOutputFile(path, { force: true }, temporary => writeOutputFile(temporary, text));
