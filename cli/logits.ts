import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { asBytes } from '../engine/dtype.js';
import { RmError } from '../engine/errors.js';
import { plural } from '../engine/format.js';
import { parseJsonText } from '../engine/json.js';
import { reasonOf } from '../engine/reasons.js';
import type { SafetensorsFile } from '../model/checkpoint/safetensors.js';
import type { TensorSource } from '../model/checkpoint/safetensorsWriter.js';
import type { LogitsResult } from '../model/transformer/logits.js';
import { withDevice } from './device/gpu.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { newCommand, type Run, runs } from './terminal/command.js';

interface LogitsOptions extends ModelFlags {
  ids: string;
  out: string;
  taps?: boolean;
  force?: boolean;
  json?: boolean;
}

/** Whether a file has the tensors of `logitsTensors` and no others. */
const isLogits = ({ entries }: SafetensorsFile): boolean =>
  entries.has('s0.logits') && [...entries.keys()].every(name => /^s\d+\.(logits|hidden\..+)$/.test(name));

/**
 * Reads token ids from a JSON file: one sequence [1, 2, 3] or several [[1, 2], [3, 4, 5]].
 *
 * @throws RmError DATA_INVALID naming the entry.
 */
async function readIds(path: string, vocab: number, context: number): Promise<number[][]> {
  const invalid = (problem: string, fix: string, cause?: unknown) =>
    new RmError('DATA_INVALID', `${path}: ${problem}`, fix, { cause });
  const shape = 'Give a JSON array of token ids, or an array of such arrays.';
  let value: unknown;
  try {
    value = parseJsonText(await readFile(path, 'utf8'));
  } catch (cause) {
    const problem = cause instanceof SyntaxError ? 'is not valid JSON' : 'cannot be read';
    throw invalid(`${problem}: ${reasonOf(cause)}`, shape, cause);
  }
  if (!Array.isArray(value)) throw invalid('is not an array', shape);
  const sequences: unknown[][] = value.every(Array.isArray) ? value : [value];
  if (sequences.length === 0) throw invalid('holds no token ids', shape);
  for (const [s, sequence] of sequences.entries()) {
    if (sequence.length === 0) throw invalid(`sequence ${s} is empty`, shape);
    if (sequence.length > context) {
      throw invalid(
        `sequence ${s} has ${sequence.length} tokens, the model's context is ${context}`,
        'Cut it into shorter sequences.',
      );
    }
    const wrong = sequence.findIndex(
      id => !Number.isInteger(id) || (id as number) < 0 || (id as number) >= vocab,
    );
    if (wrong >= 0) {
      throw invalid(
        `entry ${wrong} of sequence ${s} is ${JSON.stringify(sequence[wrong])}`,
        `Token ids of this model are whole numbers from 0 to ${vocab - 1}.`,
      );
    }
  }
  return sequences as number[][];
}

/**
 * The tensors of one sequence, for a writer that reads them one by one. The first read computes all values and the last
 * one releases them, so only one sequence is in memory at a time.
 */
export function logitsTensors(
  sequence: number,
  tokens: number,
  { vocab, hidden, layers }: { vocab: number; hidden: number; layers: number },
  taps: boolean,
  compute: () => Promise<LogitsResult>,
): TensorSource[] {
  type Pick = (result: LogitsResult) => Float32Array;
  const parts: [name: string, columns: number, pick: Pick][] = [['logits', vocab, ({ logits }) => logits]];
  if (taps) {
    parts.push(['hidden.embedding', hidden, result => result.hidden!.embedding]);
    for (let layer = 0; layer < layers; layer++) {
      parts.push([`hidden.layer.${layer}`, hidden, result => result.hidden!.layers[layer]!]);
    }
    parts.push(['hidden.final_norm', hidden, result => result.hidden!.finalNorm]);
  }
  let result: Promise<LogitsResult> | undefined;
  let left = parts.length;
  return parts.map(([name, columns, pick]) => ({
    name: `s${sequence}.${name}`,
    dtype: 'f32',
    shape: [tokens, columns],
    bytes: async () => {
      result ??= compute();
      const values = pick(await result);
      if (--left === 0) result = undefined;
      return asBytes(values);
    },
  }));
}

const details = `For comparing with another runtime. --ids names a JSON file with an array of token ids, or an array of such arrays, one
per sequence. Every sequence starts at position 0. The output holds these float32 tensors for sequence n = 0, 1, ...:
  s{n}.logits             [tokens, vocabulary]
  with --taps also the hidden states, [tokens, hidden]:
  s{n}.hidden.embedding   before layer 0
  s{n}.hidden.layer.{i}   after layer i, residual included
  s{n}.hidden.final_norm  the input of the head`;

/** `logits MODEL --ids FILE --out FILE.safetensors` */
export function logitsCommand(signal: AbortSignal): Command {
  const command = newCommand('logits', {
    summary: 'write the logits and hidden states of token ids to a file',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine logits ./pruned --ids ids.json --out logits.safetensors',
      'rm-engine logits ./pruned --ids ids.json --out taps.safetensors --taps',
    ],
  })
    .requiredOption('--ids <file>', 'JSON file of token ids')
    .requiredOption('--out <file>', 'the .safetensors file to write')
    .option('--taps', 'also write the hidden states after every layer')
    .option('--force', 'replace a file of an earlier run')
    .option('--json', 'print one JSON object');
  return runs<LogitsOptions>(withDownload(command), signal, (run, model) => runLogits(run, model as string));
}

async function runLogits(run: Run<LogitsOptions>, folder: string): Promise<void> {
  const { options, terminal, progress } = run;
  const { ids: idsFile, out, taps = false, force = false } = options;
  if (!out.endsWith('.safetensors')) run.usage("--out must end in '.safetensors'");
  const [
    { Model },
    { logits },
    { withOutputFile },
    { safetensorsKind },
    { writeSafetensorsFile },
    { readArchitecture },
  ] = await Promise.all([
    import('../model/transformer/model.js'),
    import('../model/transformer/logits.js'),
    import('../model/files/outputFile.js'),
    import('../model/checkpoint/safetensorsKind.js'),
    import('../model/checkpoint/safetensorsWriter.js'),
    import('../model/source/readArchitecture.js'),
  ]);
  await findModels(run, [folder]);
  const arch = await readArchitecture(folder);
  const sequences = await readIds(idsFile, arch.vocab, arch.contextLength);
  const total = sequences.reduce((sum, { length }) => sum + length, 0);
  const output = { force, protect: await inputPaths([folder], [idsFile]) };
  const tensors = await withOutputFile(
    out,
    safetensorsKind('a file of rm-engine logits', isLogits),
    output,
    path =>
      withDevice(run, async device => {
        using model = await Model.load(device, folder, { onProgress: progress });
        let done = 0;
        const sources = sequences.flatMap((ids, sequence) =>
          logitsTensors(sequence, ids.length, arch, taps, async () => {
            const result = await logits(model, ids, { taps });
            done += ids.length;
            progress({ phase: 'logits', done, total, unit: 'tokens' });
            return result;
          }),
        );
        await writeSafetensorsFile(path, sources);
        return sources.map(({ name }) => name);
      }),
  );
  if (options.json) terminal.json({ model: folder, out, tokens: total, tensors });
  else terminal.note(`${out}: ${plural(tensors.length, 'tensor')}, ${plural(total, 'token')}`);
}
