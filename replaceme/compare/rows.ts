import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { anything, brokenSeal, type Formed, RmError, record, sealed, tableOf } from '../../engine/index.js';
import {
  checkKeptFolder,
  type FileKind,
  readJsonFileIfPresent,
  reportFiles,
  textKind,
  withOutputFile,
  writeOutputFile,
} from '../../model/index.js';
import { shownJson } from '../report/text/shownText.js';

/** The folder of the rows within that of the comparison. */
const ROWS = 'rows';
/** "7-refit.json", "dense.json". */
const rowName = /^(\d+-[a-z-]+|dense)\.json$/;
const rowForm = record({ key: tableOf(anything), row: tableOf(anything) });

/** What all rows depend on; plain JSON, compared name by name. */
export type ComparisonKey = Readonly<Record<string, unknown>>;

/** The rows of a comparison in DIR/rows, each with the key it was made under. Without a folder it stores nothing. */
export class RowStore {
  readonly #folder: string | undefined;
  readonly #key: ComparisonKey;

  constructor(out: string | undefined, key: ComparisonKey) {
    this.#folder = out === undefined ? undefined : join(out, ROWS);
    // As it looks after a round trip through JSON.
    this.#key = JSON.parse(JSON.stringify(key)) as ComparisonKey;
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
      const fix = 'Move the file away, or add `force`, and the row is made again.';
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
    await replace(this.#path(name), rowKind, `${shownJson(sealed({ key: this.#key, row }))}\n`);
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

const rowKind = textKind('a row of a comparison', /^\s*\{\s*"key":\s*\{/);
const tableKind = textKind(
  'a table of rm-engine compare',
  /^# .*: methods compared\n[\s\S]*Made with rm-engine /,
);
const TABLE = 'compare.md';

/** Checks before any work that a comparison may be kept in a folder. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export async function checkComparisonFolder(out: string, protect: readonly string[]): Promise<void> {
  const names = await readdir(join(out, ROWS)).catch(() => []);
  const rows = names.filter(name => rowName.test(name)).map(name => [`${ROWS}/${name}`, rowKind] as const);
  const files = { ...reportFiles, [TABLE]: tableKind, ...Object.fromEntries(rows) };
  await checkKeptFolder(out, files, { protect, force: true });
}

/** Writes the table of a comparison into its folder. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export const writeTable = (out: string, text: string): Promise<void> =>
  replace(join(out, TABLE), tableKind, text);

/** Replaces a file of this kind; a crash leaves no partial one. */
const replace = (path: string, kind: FileKind, text: string): Promise<void> =>
  withOutputFile(path, kind, { force: true }, temporary => writeOutputFile(temporary, text));
