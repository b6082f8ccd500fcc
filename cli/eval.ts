import type { Command } from 'commander';
import { RmError } from '../engine/errors.js';
import { formatTable } from '../engine/textTable.js';
import type { Evaluation } from '../model/evaluate.js';
import { newCommand, runs } from './command.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from './kernelProfile.js';
import { wholeNumber } from './optionTypes.js';
import { fileSequences, loadTextTools } from './sequences.js';

export interface FileEvaluation extends Evaluation {
  readonly file: string;
}

interface EvalOptions extends ProfileOptions {
  against?: string;
  tokens?: number;
  sequenceLength?: number;
  batchTokens?: number;
  textField?: string;
  json?: boolean;
}

/** One line per file. */
export function formatEvaluations(results: readonly FileEvaluation[]): string {
  const compared = results.some(({ kl }) => kl !== undefined);
  const right = (title: string) => ({ title, align: 'right' as const });
  const columns = [{ title: 'file' }, right('tokens'), right('perplexity')];
  if (compared) columns.push(right('perplexity of other'), right('KL (nats)'), right('same top-1'));
  const rows = results.map(result => {
    const cells = [result.file, `${result.tokens}`, result.perplexity.toFixed(4)];
    if (compared) {
      cells.push(
        result.againstPerplexity?.toFixed(4) ?? '',
        result.kl?.toPrecision(4) ?? '',
        result.top1 === undefined ? '' : `${(100 * result.top1).toFixed(2)} %`,
      );
    }
    return cells;
  });
  return formatTable(columns, rows);
}

const details = `Files: .txt (documents separated by empty lines), .jsonl, .json, .parquet with a field "text" or "messages".
Texts follow one another, an empty line between, and are cut into sequences of --sequence-length tokens. Messages go
through the model's chat template; a conversation is a sequence of its own, or several where it is longer. Every
sequence is read from position 0. Perplexity is exp of the mean -log p(next token). With --against also the mean
KL divergence KL(other || model) and the share of places where both have the same most likely token; the other model
must have the same vocabulary.`;

/** `eval MODEL FILE...` */
export function evalCommand(signal: AbortSignal): Command {
  const command = newCommand('eval', {
    summary: 'perplexity on texts, and agreement with another model',
    details,
    args: [
      ['<model>', 'model folder'],
      ['<files...>', 'texts or conversations'],
    ],
    examples: [
      'rm-engine eval ./pruned wikitext.txt --tokens 4096',
      'rm-engine eval ./pruned chat.jsonl --against ./SmolLM2-135M-Instruct --json',
    ],
  })
    .option('--against <model>', 'also compare with this model')
    .option('--tokens <count>', 'most tokens to read of each file (default: all)', wholeNumber(2))
    .option(
      '--sequence-length <count>',
      'tokens of the longest sequence (default: 1024, at most the context)',
      wholeNumber(2),
    )
    .option('--batch-tokens <count>', 'tokens computed at a time (default: by the device)', wholeNumber(1))
    .option('--text-field <name>', 'field or column that holds the text or the messages')
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--force', 'replace the trace of --profile')
    .option('--json', 'print one JSON object');
  return runs<EvalOptions>(command, signal, async (run, model, files) => {
    const { options, terminal, progress } = run;
    const folder = model as string;
    const [{ Model }, { evaluate }] = await Promise.all([
      import('../model/model.js'),
      import('../model/evaluate.js'),
    ]);
    const { inspectModel } = await import('../model/inspect.js');
    const tools = await loadTextTools(folder);
    const context = (await inspectModel(folder)).contextLength;
    const sequenceLength = Math.min(options.sequenceLength ?? 1024, context);
    // All files are read before the models are loaded: a bad one should not cost that time.
    const texts: { file: string; sequences: number[][] }[] = [];
    for (const file of files as string[]) {
      const sequences = await fileSequences(file, tools, { ...options, sequenceLength });
      if (sequences.every(({ length }) => length < 2)) {
        throw new RmError('DATA_INVALID', `${file}: has fewer than two tokens`, 'Evaluate on longer text.');
      }
      texts.push({ file, sequences });
    }
    const { result, ...profiled } = await withProfiledDevice(run, options, async device => {
      using dense = await Model.load(device, folder, { onProgress: progress });
      using against = options.against
        ? await Model.load(device, options.against, { onProgress: progress })
        : undefined;
      const found: FileEvaluation[] = [];
      for (const { file, sequences } of texts) {
        const evaluation = await evaluate(dense, sequences, {
          ...(against && { against }),
          ...(options.batchTokens && { batchTokens: options.batchTokens }),
          onProgress: progress,
          signal,
        });
        found.push({ file, ...evaluation });
      }
      return { files: found, adapter: device.info.description };
    });
    if (options.json) {
      terminal.json({ model: folder, against: options.against, sequenceLength, ...result, ...profiled });
    } else {
      terminal.data(formatEvaluations(result.files));
    }
  });
}
