import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import { formatSeconds } from '../engine/format.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from './device/kernelProfile.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from './options/models.js';
import { type SamplingFlags, samplingOf, withSamplingOptions } from './options/samplingOptions.js';
import { loadTextTools } from './options/sequences.js';
import { newCommand, runs } from './terminal/command.js';

interface GenerateCommandOptions extends ProfileOptions, SamplingFlags, ModelFlags {
  chat?: boolean;
  system?: string;
  json?: boolean;
}

const details = `The text is streamed as it is made; it ends at the model's end-of-text token, after --max-tokens or where
the model's context is full.
The default takes the most likely token each time; with a temperature tokens are drawn, and the same seed gives the same
text again. The prompt "-" is read from stdin.`;

/** `generate MODEL PROMPT` */
export function generateCommand(signal: AbortSignal): Command {
  const command = newCommand('generate', {
    summary: 'continue a text',
    details,
    args: [
      ['<model>', MODEL_TEXT],
      ['<prompt>', 'the text to continue, or with --chat the message to answer'],
    ],
    examples: [
      'rm-engine generate ./pruned "The moon is" --max-tokens 40',
      'rm-engine generate ./pruned --chat "Why is the sky blue?" --temperature 0.7 --seed 1',
      'echo "Once upon a time" | rm-engine generate ./pruned -',
    ],
  })
    .option('--chat', "treat the prompt as a message, through the model's chat template")
    .option('--system <text>', 'with --chat: a system message before it');
  withSamplingOptions(command, 128)
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--force', 'replace the trace of --profile')
    .option('--json', 'print one JSON object instead of streaming');
  return runs<GenerateCommandOptions>(withDownload(command), signal, async (run, model, prompt) => {
    const { options, terminal, progress } = run;
    if (options.system !== undefined && !options.chat) run.usage('--system needs --chat');
    const folder = model as string;
    const text = prompt === '-' ? await readAll(process.stdin) : (prompt as string);
    const [{ Model }, { generate }] = await Promise.all([
      import('../model/transformer/model.js'),
      import('../model/generation/generate.js'),
    ]);
    await findModels(run, [folder]);
    const { tokenizer, chat } = await loadTextTools(folder);
    const system = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
    const ids = options.chat
      ? tokenizer.encode(
          chat.renderChat([...system, { role: 'user', content: text }], { addGenerationPrompt: true }),
          { addSpecialTokens: false },
        )
      : tokenizer.encode(text);
    const { result, ...profiled } = await withProfiledDevice(run, options, async device => {
      using loaded = await Model.load(device, folder, { onProgress: progress });
      const stream = tokenizer.createTextStream({ skipSpecialTokens: true });
      const say = (piece: string) => {
        if (piece && !options.json) terminal.data(piece);
        return piece;
      };
      let said = '';
      const started = performance.now();
      const generated = await generate(loaded, ids, {
        ...samplingOf(options),
        eosIds: tokenizer.eosIds,
        onToken: id => {
          said += say(stream.push(id));
        },
        signal,
      });
      said += say(stream.end());
      const seconds = (performance.now() - started) / 1000;
      const room = loaded.arch.contextLength - ids.length;
      return { text: said, ids: generated, seconds, room, adapter: device.info.description };
    });
    const { room, ...output } = result;
    const count = output.ids.length;
    if (options.json) {
      const stopped = count >= options.maxTokens ? 'length' : count >= room ? 'context' : 'end';
      terminal.json({ model: folder, prompt: text, promptIds: ids, ...output, stopped, ...profiled });
    } else {
      terminal.data('\n');
    }
    if (count < options.maxTokens && count >= room) terminal.note("the text has reached the model's context");
    const speed = (count / result.seconds).toPrecision(3);
    terminal.note(`${count} tokens in ${formatSeconds(result.seconds)} (${speed} tokens/s, prompt included)`);
  });
}
