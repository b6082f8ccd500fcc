import { RmError } from '../../engine/errors.js';
import type { TextReader } from '../../model/text/textReader.js';
import type { Model } from '../../model/transformer/model.js';
import type { FileEvaluation } from '../../replaceme/report/schema/schema.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import { fileSequences } from '../inputs/sequences.js';
import type { Run } from '../terminal/command.js';

/** Options of `eval` for text files. */
export interface TextOptions {
  tokens?: number;
  sequenceLength?: number;
  textField?: string;
  batchTokens?: number;
}

/** The token sequences of one file. */
interface EvaluationText {
  readonly file: string;
  readonly sequences: readonly number[][];
}

/**
 * Reads all files, so that a bad one costs no time on the device.
 *
 * @throws RmError DATA_INVALID for a file without two tokens in a row.
 */
export async function readTexts(
  files: readonly string[],
  reader: TextReader,
  options: TextOptions & { sequenceLength: number },
): Promise<EvaluationText[]> {
  const texts: EvaluationText[] = [];
  for (const file of files) {
    const sequences = await fileSequences(file, reader, options);
    if (sequences.every(({ length }) => length < 2)) {
      throw new RmError('DATA_INVALID', `${file}: has fewer than two tokens`, 'Evaluate on longer text.');
    }
    texts.push({ file, sequences });
  }
  return texts;
}

/** Measures the perplexity of each text, and the agreement with `against` if given. */
export async function evaluateTexts(
  { options, progress, signal }: Run<TextOptions>,
  texts: readonly EvaluationText[],
  model: Model,
  against?: Model,
): Promise<FileEvaluation[]> {
  const { evaluate } = await import('../../model/evaluation/evaluate.js');
  const evaluations: FileEvaluation[] = [];
  for (const { file, sequences } of texts) {
    progress.nextStep();
    const evaluation = await evaluate(model, sequences, {
      ...(against && { against }),
      ...(options.batchTokens && { batchTokens: options.batchTokens }),
      onProgress: progress,
      signal,
    });
    evaluations.push({ file, ...evaluation });
  }
  return evaluations;
}

/** One line per file. */
export function formatEvaluations(evaluations: readonly FileEvaluation[]): string {
  const compared = evaluations.some(({ kl }) => kl !== undefined);
  const right = (title: string) => ({ title, align: 'right' as const });
  const columns = [{ title: 'file' }, right('tokens'), right('perplexity')];
  if (compared) columns.push(right('perplexity of other'), right('KL (nats)'), right('same top-1'));
  const rows = evaluations.map(({ file, tokens, perplexity, againstPerplexity, kl, top1 }) => [
    ...[file, `${tokens}`, perplexity.toFixed(4)],
    ...(compared
      ? [
          againstPerplexity?.toFixed(4) ?? '',
          kl?.toPrecision(4) ?? '',
          top1 === undefined ? '' : `${(100 * top1).toFixed(2)} %`,
        ]
      : []),
  ]);
  return formatTable(columns, rows);
}
