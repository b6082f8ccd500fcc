import type { Command } from 'commander';
import type { WrittenType } from '../model/gguf/encode.js';
import { numberType } from '../replaceme/options/valueTypes.js';
import { withDevice } from './device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { byteCount, parserOf } from './options/optionTypes.js';
import { newCommand, runs } from './terminal/command.js';

interface ConvertCommandOptions extends ModelFlags {
  type?: Lowercase<WrittenType>;
  maxShard?: number;
  force?: boolean;
  json?: boolean;
}

const details = `The result is loaded again and compared with the original before it appears under its name. docs/gguf.md has more.

To GGUF: config.json and the tokenizer become metadata. Matrices keep their number type or take the one of --type;
vectors become F32. A tokenizer that llama.cpp would read differently is refused.

To a folder: the metadata become config.json, tokenizer.json, tokenizer_config.json, generation_config.json and
chat_template.jinja. Weights keep their number type or take the one of --type; quantised matrices become float16.`;

const types: readonly Lowercase<WrittenType>[] = ['f32', 'f16', 'bf16', 'q8_0'];

/** `convert MODEL OUT` */
export function convertCommand(signal: AbortSignal): Command {
  const command = withDownload(
    newCommand('convert', {
      summary: 'convert a model folder to GGUF, or a GGUF file to a folder',
      details,
      args: [
        ['<model>', MODEL_TEXT],
        ['<out>', 'the .gguf file or the folder to write'],
      ],
      examples: [
        'rm-engine convert ./pruned ./pruned.gguf',
        'rm-engine convert ./pruned ./pruned-q8.gguf --type q8_0',
        'rm-engine convert ./model.Q4_K_M.gguf ./model --type bf16',
      ],
    }),
  )
    .option(
      '--type <type>',
      'number type of the weights; q8_0 for GGUF only (default: unchanged)',
      parserOf(numberType(...types)),
    )
    .option('--max-shard <bytes>', 'largest weight file in a folder (default: 5GB)', byteCount)
    .option('--force', 'replace an earlier output: a GGUF file or a model folder')
    .option('--json', 'print one JSON object');
  return runs<ConvertCommandOptions>(command, signal, async (run, model, out) => {
    const { options, terminal, progress } = run;
    await findModels(run, [model as string]);
    const { checkConversion, convert } = await import('../model/writing/convert.js');
    // Before a device is opened: an output in the way should not cost that time.
    await checkConversion(model as string, out as string, options.force ?? false);
    const result = await withDevice(run, device =>
      convert(device, model as string, out as string, {
        ...(options.type && { type: options.type.toUpperCase() as WrittenType }),
        ...(options.maxShard !== undefined && { maxShardBytes: options.maxShard }),
        force: options.force ?? false,
        onProgress: progress,
      }),
    );
    if (options.json) terminal.json(result);
    else
      terminal.note(`${result.to}: ${result.layers} layers, loaded again${agreement(result.verification)}`);
  });
}

const agreement = (verification: { tokens: number; maxLogitDifference: number } | null): string =>
  verification === null
    ? ''
    : `; logits of ${verification.tokens} tokens differ by at most ${verification.maxLogitDifference.toExponential(1)}`;
