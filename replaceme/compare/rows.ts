import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { outputError, withOutputFile, writeOutputFile } from '../../model/files/outputFolder.js';
import { isRecord, readJsonFileIfPresent } from '../../model/files/jsonFile.js';
import type { RepairDetails } from '../methods/method.js';
import type { DamagePoint } from '../evaluation/layerDamage.js';
import type { PositionLoss } from '../evaluation/positionLoss.js';
import type { RidgePath } from '../fits/ridgePath.js';

/** How a model does on one file. */
export interface FileScores {
  readonly file: string;
  /** Perplexity. */
  readonly ppl: number;
  /** Mean KL(dense || model) in nats, and the share of places where both have the same most likely token. */
  readonly kl: number;
  readonly top1: number;
}

/** What is measured of a model in memory. */
export interface Measures {
  readonly eval: readonly FileScores[];
  readonly parameters: number;
  /** Of the weights, in the checkpoint's dtypes. */
  readonly bytes: number;
  /** Of the forward pass of all layers over one batch, without the output head. */
  readonly tokensPerSecond: number;
  /** Over all files. */
  readonly lossByPosition: readonly PositionLoss[];
}

/** One method at one number of removed layers. */
export interface MeasuredRow extends Measures {
  readonly method: string;
  readonly layers: number;
  /** (i, n): layer i stays, layers i+1 ... i+n are removed. */
  readonly windows: readonly (readonly [layer: number, count: number])[];
  readonly selection: { readonly name: string; readonly by: string; readonly seconds: number };
  /** Selection and repair; a selection that several rows share counts for each. */
  readonly fitSeconds: number;
  /** The method's own numbers. */
  readonly details: RepairDetails;
  readonly ridgePaths: readonly RidgePath[];
  /** Where it was measured. */
  readonly damageByLayer?: readonly DamagePoint[];
  readonly warnings: readonly string[];
}

/** A method that cannot do it. */
export interface RefusedRow {
  readonly method: string;
  readonly layers: number;
  readonly windows: readonly [];
  readonly eval: readonly [];
  /** Why. */
  readonly refused: string;
}

/** A row of a comparison: measured, or the reason why there is no measure. */
export type ComparisonRow = MeasuredRow | RefusedRow;

/** What a row depends on besides method and layers; plain JSON, compared by name. */
export type ComparisonKey = Readonly<Record<string, unknown>>;

/** Rows of a comparison on disk, in DIR/rows, each with the key it was made under; without a folder none are kept. */
export class RowStore {
  readonly #folder: string | undefined;
  readonly #key: ComparisonKey;

  constructor(out: string | undefined, key: ComparisonKey) {
    this.#folder = out === undefined ? undefined : join(out, 'rows');
    // As it looks when read again.
    this.#key = JSON.parse(JSON.stringify(key)) as ComparisonKey;
  }

  /** Makes the folder, so that one that cannot be written is not found after hours. @throws RmError OUTPUT_FAILED. */
  async open(): Promise<void> {
    const folder = this.#folder;
    if (folder === undefined) return;
    await mkdir(folder, { recursive: true }).catch(error => Promise.reject(outputError(error, folder)));
  }

  /**
   * The row `name`, if it has been made.
   *
   * @param force takes a row of another key for none.
   * @throws RmError OUTPUT_EXISTS naming what differs; CONFIG_INVALID for a file that is no row.
   */
  async read<Row>(name: string, force: boolean): Promise<Row | undefined> {
    if (this.#folder === undefined) return undefined;
    const path = this.#path(name);
    const stored = await readJsonFileIfPresent(path);
    if (stored === undefined) return undefined;
    if (!isRecord(stored) || !isRecord(stored.key) || !isRecord(stored.row)) {
      throw new RmError('CONFIG_INVALID', `${path}: is no row of a comparison`, 'Remove the file.');
    }
    const differences = this.#differences(stored.key);
    if (differences.length === 0) return stored.row as Row;
    if (force) return undefined;
    throw new RmError(
      'OUTPUT_EXISTS',
      `${path}: was made otherwise: ${differences.join('; ')}`,
      'Repeat its settings, choose another --out, or add --force to make such rows again.',
    );
  }

  /** Keeps a row; the file is whole or not there. @throws RmError OUTPUT_FAILED. */
  async write(name: string, row: object): Promise<void> {
    if (this.#folder === undefined) return;
    await writeWhole(this.#path(name), `${JSON.stringify({ key: this.#key, row }, null, 2)}\n`);
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

/** Writes a file of the comparison beside its place and moves it there. @throws RmError OUTPUT_FAILED. */
export const writeWhole = (path: string, text: string): Promise<void> =>
  withOutputFile(path, { force: true }, temporary => writeOutputFile(temporary, text));
