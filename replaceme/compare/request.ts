import { checkArguments, ensure, listOf, record, whole } from '../../engine/index.js';
import {
  type Architecture,
  aPath,
  inputPaths,
  openTextReader,
  readArchitecture,
  readDocuments,
} from '../../model/index.js';
import { type EvaluationText, readEvaluationText } from '../evaluation/evaluationText.js';
import { type Method, methodNamed, unreadSettings } from '../methods/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import type { ComparisonRow } from '../report/schema/comparison.js';
import { checkPruneRequest, type PruneRequest } from '../request/request.js';
import { layersToRemove } from '../run/window.js';
import { checkComparisonFolder } from './rows.js';

/** What `compare` compares, and on which texts; the settings of `prune` apply to every row. */
export interface CompareOptions
  extends Omit<
    PruneOptions,
    | ('layers' | 'ratio' | 'window' | 'remove' | 'method' | 'maxShardBytes')
    | ('maxKl' | 'keepTop1' | 'targetBytes' | 'targetParameters')
    | ('generate' | 'faithful' | 'statistics' | 'evaluation' | 'evaluationTokens')
  > {
  /** Numbers of layers to remove: one row for each of them and each method. */
  layers: readonly number[];
  /** Default: `usualMethods`. */
  methods?: readonly string[];
  /** Texts to evaluate on, each file by itself (default: what follows in the calibration files). */
  evaluation?: readonly string[];
  /** First tokens of each of those files (default: all), or of what follows in the calibration files (by the device). */
  evaluationTokens?: number;
  /** Folder for each finished row and for the whole at the end; without it nothing is written. */
  out?: string;
  /** Makes rows in `out` again that come from other data or settings. */
  force?: boolean;
  /** Called when a row is made, or read from `out`. */
  onRow?: (row: ComparisonRow) => void;
}

/** Removal alone, the paper's repair, and our own two. */
export const usualMethods: readonly string[] = ['plain', 'replaceme-ls', 'refit', 'refit-heal'];

/** A row to make. */
export interface Candidate {
  readonly layers: number;
  readonly method: Method;
  /** The checked request, or why the method cannot prune this model. */
  readonly request: PruneRequest | string;
}

/** A checked comparison, with the texts to evaluate on. */
export interface CompareRequest {
  /** Settings of all rows. */
  readonly shared: PruneOptions;
  readonly arch: Architecture;
  readonly candidates: readonly Candidate[];
  /** The given ones; else undefined. */
  readonly texts: readonly EvaluationText[] | undefined;
}

/**
 * The options of a row: without the settings of other methods, since what all rows share is meant for those that read it,
 * and without `report: none`, since a comparison measures on its texts without a report too.
 */
function read(shared: PruneOptions, method: Method): PruneOptions {
  const unread = unreadSettings(method).map(({ path }) => path[0]!);
  if (shared.report === 'none') unread.push('report');
  return Object.fromEntries(Object.entries(shared).filter(([name]) => !unread.includes(name)));
}

function checkList(values: readonly (string | number)[], what: string): void {
  ensure(values.length > 0, `no ${what} given`, `Give at least one of ${what}.`);
  const twice = values.find((value, i) => values.indexOf(value) !== i);
  ensure(twice === undefined, `${what}: ${twice} is given twice`, 'Name each once.');
}

/**
 * Everything that can be checked without a device; evaluation files are read.
 *
 * @throws RmError INVALID_ARGUMENT, DATA_INVALID, and what Model.load throws for a damaged folder.
 */
export async function checkCompareRequest(from: string, options: CompareOptions): Promise<CompareRequest> {
  checkArguments(
    'compare',
    { from, options },
    { from: aPath, options: record({ layers: listOf(whole(1)) }) },
  );
  const { layers: ratios, methods: names = usualMethods, evaluation, out, onRow, ...shared } = options;
  checkList(ratios, 'layers');
  checkList(names, 'methods');
  if (evaluation) checkList(evaluation, 'evaluation files');
  const methods = names.map(methodNamed);
  const arch = await readArchitecture(from);
  const candidates: Candidate[] = [];
  for (const layers of ratios) {
    layersToRemove({ layers }, arch.layers);
    for (const method of methods) {
      const refusal = method.refusal?.(arch);
      const request =
        refusal ??
        (await checkPruneRequest(from, undefined, { ...read(shared, method), layers, method: method.name }));
      candidates.push({ layers, method, request });
    }
  }
  const { calibration = [], calibrationTasks = [] } = options;
  if (out !== undefined) {
    await checkComparisonFolder(
      out,
      await inputPaths([from], [...calibration, ...calibrationTasks, ...(evaluation ?? [])]),
    );
  }
  for (const file of calibration) await checkReadable(file, options);
  const texts = evaluation && (await readEvaluation(from, arch, evaluation, options));
  return { shared, arch, candidates, texts };
}

/** @throws RmError DATA_INVALID unless the file begins with a document. */
async function checkReadable(file: string, { textField, skipInvalid }: CompareOptions): Promise<void> {
  for await (const _ of readDocuments(file, { textField, skipInvalid })) break;
}

async function readEvaluation(
  from: string,
  { contextLength }: Architecture,
  evaluation: readonly string[],
  { evaluationTokens, sequenceLength = 1024, textField, skipInvalid, date }: CompareOptions,
): Promise<EvaluationText[]> {
  const reader = await openTextReader(from, { date });
  const texts: EvaluationText[] = [];
  for (const file of evaluation) {
    texts.push(
      await readEvaluationText(file, reader, {
        ...{ textField, skipInvalid },
        sequenceLength: Math.min(sequenceLength, contextLength),
        tokens: evaluationTokens,
      }),
    );
  }
  return texts;
}
