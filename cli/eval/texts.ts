import { RmError } from '../../engine/errors.js';
import type { FileSequences } from '../../model/text/fileSequences.js';
import type { TextReader } from '../../model/text/textReader.js';
import type { Model } from '../../model/transformer/model.js';
import type { FileEvaluation } from '../../replaceme/report/schema/schema.js';
import { formatTable, right } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';

/** Options of `eval` for text files. */
export interface TextOptions {
  tokens?: number;
  sequenceLength?: number;
  textField?: string;
  skipInvalid?: boolean;
  batchTokens?: number;
}

/** The token sequences of one file. */
interface EvaluationText extends FileSequences {
  readonly file: string;
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
  const { fileSequences } = await import('../../model/text/fileSequences.js');
  const { textField, skipInvalid, sequenceLength, tokens } = options;
  const texts: EvaluationText[] = [];
  for (const file of files) {
    const text = await fileSequences(file, reader, { textField, skipInvalid, sequenceLength, tokens });
    if (text.sequences.length === 0) {
      throw new RmError('DATA_INVALID', `${file}: has fewer than two tokens`, 'Evaluate on longer text.');
    }
    texts.push({ file, ...text });
  }
  return texts;
}

/** Measures the perplexity of each text, and the agreement with `against` if given. */
export async function evaluateTexts(
  { options, terminal, progress, signal }: Run<TextOptions>,
  texts: readonly EvaluationText[],
  model: Model,
  against?: Model,
): Promise<FileEvaluation[]> {
  const { evaluate } = await import('../../model/evaluation/evaluate.js');
  const evaluations: FileEvaluation[] = [];
  for (const { file, sequences, texts: joined, leftOut } of texts) {
    progress.nextStep();
    if (joined > 1) terminal.note(`${file}: ${joined.toLocaleString('en')} texts, joined by empty lines`);
    const evaluation = await evaluate(model, sequences, {
      ...(against && { against }),
      ...(options.batchTokens && { batchTokens: options.batchTokens }),
      onProgress: progress,
      signal,
    });
    evaluations.push({ file, ...evaluation, ...(leftOut && { leftOut }) });
  }
  return evaluations;
}

/** One line per file. */
export function formatEvaluations(evaluations: readonly FileEvaluation[]): string {
  const compared = evaluations.some(({ kl }) => kl !== undefined);
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
