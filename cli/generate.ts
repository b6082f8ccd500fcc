import { text as readAll } from 'node:stream/consumers';
import type { Command } from 'commander';
import type { Device } from '../engine/device.js';
import { formatRate, formatSeconds, plural } from '../engine/format.js';
import type { SamplingOptions } from '../model/generation/sampler.js';
import type { TextReader } from '../model/text/textReader.js';
import type { Tokenizer } from '../model/text/tokenizer.js';
import {
  PROFILE_FLAG,
  PROFILE_TEXT,
  type ProfileOptions,
  tracePath,
  withProfiledDevice,
} from './device/kernelProfile.js';
import { findModels, inputPaths, MODEL_TEXT, type ModelFlags, withDownload } from './inputs/models.js';
import { openTextReader } from './inputs/textReader.js';
import { type DateFlag, localTime, withDateOption } from './options/dateOption.js';
import {
  describeSampling,
  type SamplingFlags,
  samplingOf,
  withSamplingOptions,
} from './options/samplingOptions.js';
import { newCommand, type Run, runs } from './terminal/command.js';

interface GenerateOptions extends ProfileOptions, SamplingFlags, ModelFlags, DateFlag {
  chat?: boolean;
  system?: string;
  stop?: string[];
  json?: boolean;
}

const details = `Prints the text while it is generated, until the model's end-of-text token, --max-tokens or the end of the context.
The most likely token is chosen each time, unless --temperature or the model's generation_config.json says to draw at
random; the same seed gives the same text again. The prompt "-" is read from stdin.`;

/** `generate MODEL PROMPT` */
export function generateCommand(signal: AbortSignal): Command {
  const command = newCommand('generate', {
    summary: 'continue a text, or answer one message',
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
    .option('--chat', "treat the prompt as a user's message and apply the model's chat template")
    .option('--system <text>', 'with --chat: the system message')
    .option('--stop <text>', 'end before this text (repeat for more)', (text: string, all: string[] = []) => [
      ...all,
      text,
    ]);
  withSamplingOptions(withDateOption(command, 'now'), 128)
    .option(PROFILE_FLAG, PROFILE_TEXT, tracePath)
    .option('--force', 'replace an earlier --profile trace')
    .option('--json', 'print one JSON object instead of streaming');
  return runs<GenerateOptions>(withDownload(command), signal, (run, model, prompt) =>
    runGenerate(run, model as string, prompt as string),
  );
}

async function runGenerate(run: Run<GenerateOptions>, folder: string, prompt: string): Promise<void> {
  const { options, terminal } = run;
  if (options.system !== undefined && !options.chat) run.usage('--system needs --chat');
  const text = prompt === '-' ? await readAll(process.stdin) : prompt;
  await findModels(run, [folder]);
  const reader = await openTextReader(folder, { date: options.date ?? localTime() });
  const promptIds = await encodePrompt(text, reader, options);
  const { sampling, fromFile } = await samplingOf(folder, options);
  if (Object.keys(fromFile).length > 0) {
    terminal.note(
      `as generation_config.json says: ${describeSampling(fromFile)} (--temperature 0: most likely)`,
    );
  }
  const profiling = { ...options, protect: await inputPaths([folder]) };
  const { result, ...profile } = await withProfiledDevice(run, profiling, device =>
    streamText(run, device, folder, promptIds, { tokenizer: reader.tokenizer, sampling }),
  );
  const { room, ended, ...output } = result;
  const count = output.ids.length;
  const full = ended === 'length' && count < options.maxTokens;
  if (options.json) {
    const stopped = ended === 'stop' ? 'end' : full ? 'context' : 'length';
    terminal.json({ model: folder, prompt: text, promptIds, ...output, stopped, ...profile });
  } else {
    terminal.data('\n');
  }
  if (full) {
    terminal.note(
      count >= room
        ? "the text has reached the end of the model's context"
        : 'the device has no memory for more keys and values: the text ends here',
    );
  }
  const speed = formatRate(count / result.seconds, 'tokens');
  terminal.note(`${plural(count, 'token')} in ${formatSeconds(result.seconds)} (${speed}, prompt included)`);
}

/** Token ids of the prompt; with --chat the prompt is a message and goes through the chat template. */
async function encodePrompt(
  text: string,
  { tokenizer, chat }: TextReader,
  options: GenerateOptions,
): Promise<number[]> {
  if (!options.chat) return tokenizer.encode(text);
  const system = options.system === undefined ? [] : [{ role: 'system', content: options.system }];
  const messages = [...system, { role: 'user', content: text }];
  return tokenizer.encode(await chat.renderChat(messages, { addGenerationPrompt: true }), {
    addSpecialTokens: false,
  });
}

/** Loads the model and prints its text token by token. `room`: tokens that fit the context after the prompt. */
async function streamText(
  { options, terminal, progress, signal }: Run<GenerateOptions>,
  device: Device,
  folder: string,
  promptIds: readonly number[],
  { tokenizer, sampling }: { tokenizer: Tokenizer; sampling: SamplingOptions & { maxTokens: number } },
) {
  const [{ Model }, { DecodingSession }, { writeText }] = await Promise.all([
    import('../model/transformer/model.js'),
    import('../model/generation/decodingSession.js'),
    import('../model/generation/writtenText.js'),
  ]);
  using model = await Model.load(device, folder, { onProgress: progress });
  using session = new DecodingSession(model);
  let text = '';
  const started = performance.now();
  const written = writeText(session, tokenizer, promptIds, {
    ...{ ...sampling, signal },
    ...(options.stop && { stop: options.stop }),
  });
  for await (const piece of written) {
    text += piece;
    if (piece && !options.json) terminal.verbatim(piece);
  }
  const { ids, ended } = written;
  const seconds = (performance.now() - started) / 1000;
  const room = model.arch.contextLength - promptIds.length;
  return { text, ids, ended, seconds, room, adapter: device.info.description };
}
