import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { formatRate, formatSeconds, plural } from '../../engine/format.js';
import type { TextReader } from '../../model/text/textReader.js';
import type { Model } from '../../model/transformer/model.js';
import { withDevice } from '../device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from '../inputs/models.js';
import { openTextReader } from '../inputs/textReader.js';
import { type DateFlag, localTime, withDateOption } from '../options/dateOption.js';
import {
  describeSampling,
  type SamplingFlags,
  samplingOf,
  withSamplingOptions,
} from '../options/samplingOptions.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { describeFailure, formatFailure } from '../terminal/failure.js';
import { styled } from '../terminal/text.js';
import type { Answer, Conversation } from './conversation.js';
import { MessageLines } from './messageLines.js';
import { TwoColumns } from './twoColumns.js';

interface ChatOptions extends SamplingFlags, ModelFlags, DateFlag {
  against?: string;
  system?: string;
  json?: boolean;
}

/** Narrower terminals show two answers one after the other: two columns would be hard to read. */
const LEAST_COLUMNS = 72;

const details = `Each line you type is a message. The model answers through its chat template and remembers the conversation; a model
without a template continues your line instead. When the conversation outgrows the model's context, its oldest turns are
forgotten. With --against two models answer every message, each with its own tokenizer, template and memory: side by side
if the terminal has at least ${LEAST_COLUMNS} columns, otherwise one after the other.

Commands: /reset forgets the conversation, /help lists the commands, /exit ends. Ctrl-C stops an answer; a second Ctrl-C
ends. If stdin is a pipe, every line is a message and stdout holds only the answers. With --json each turn is one object
on a line: {turn, user, answers: [{model, text, ids, stopped, promptTokens, reusedTokens, seconds, forgotten}]}.`;

const help = `/reset  forget the conversation
/exit   end (also Ctrl-D)
/help   show this
Ctrl-C stops an answer, a second Ctrl-C ends.`;

/** "42 tokens in 2.1 s, 20.0 tokens/s", with the model's name in front if `named`. */
function formatAnswer({ model, ids, seconds, stopped }: Answer, named: boolean): string {
  const ends = {
    end: '',
    length: ', cut at --max-tokens',
    context: ', context full',
    interrupted: ', stopped',
  };
  const speed = seconds > 0 ? `, ${formatRate(ids.length / seconds, 'tokens')}` : '';
  return `${named ? `${model}: ` : ''}${plural(ids.length, 'token')} in ${formatSeconds(seconds)}${speed}${ends[stopped]}`;
}

/** A name for each model: the last part of its path if that tells them apart. */
export function modelNames(folders: readonly string[]): string[] {
  const short = folders.map(folder => basename(resolve(folder)));
  return new Set(short).size === short.length ? short : [...folders];
}

/** `chat MODEL` */
export function chatCommand(signal: AbortSignal): Command {
  const command = newCommand('chat', {
    summary: 'chat with a model, or with two side by side',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine chat ./pruned',
      'rm-engine chat ./pruned --against ./SmolLM2-135M-Instruct --temperature 0.7',
      'rm-engine chat ./pruned --system "Answer in one sentence." --json < questions.txt',
    ],
  })
    .option('--against <model>', 'a second model that answers too')
    .option('--system <text>', 'the system message of the conversation');
  withSamplingOptions(withDateOption(command, 'now'), 512).option(
    '--json',
    'print one JSON object per turn, each on a line',
  );
  return runs<ChatOptions>(withDownload(command), signal, (run, model) => runChat(run, model as string));
}

async function runChat(run: Run<ChatOptions>, folder: string): Promise<void> {
  const { options, terminal, progress } = run;
  const folders = [folder, ...(options.against === undefined ? [] : [options.against])];
  const names = modelNames(folders);
  await findModels(run, folders);
  const readers: TextReader[] = [];
  const samplings: Awaited<ReturnType<typeof samplingOf>>['sampling'][] = [];
  for (const [i, path] of folders.entries()) {
    readers.push(await openTextReader(path, { date: options.date ?? localTime() }));
    if (!readers[i]!.chat.available) {
      terminal.note(`${names[i]} has no chat template: it continues your lines instead`);
    }
    const { sampling, fromFile } = await samplingOf(path, options);
    samplings.push(sampling);
    if (Object.keys(fromFile).length > 0) {
      terminal.note(`${names[i]}, as its generation_config.json says: ${describeSampling(fromFile)}`);
    }
  }
  const [{ Model }, { Conversation }] = await Promise.all([
    import('../../model/transformer/model.js'),
    import('./conversation.js'),
  ]);
  await withDevice(run, async device => {
    const models: Model[] = [];
    const conversations: Conversation[] = [];
    progress.steps(folders.length);
    try {
      for (const [i, path] of folders.entries()) {
        progress.nextStep();
        models.push(await Model.load(device, path, { onProgress: progress }));
        const conversationOptions = { ...samplings[i]!, system: options.system };
        conversations.push(new Conversation(names[i]!, models[i]!, readers[i]!, conversationOptions));
      }
      await converse(run, conversations);
    } finally {
      for (const owner of [...conversations, ...models]) owner.dispose();
    }
  });
}

/** Reads messages and answers them, until /exit or the end of the input. */
async function converse(run: Run<ChatOptions>, conversations: readonly Conversation[]): Promise<void> {
  const { terminal, signal, options } = run;
  using lines = new MessageLines(process.stdin, process.stderr, {
    prompt: terminal.rendered('stderr', styled('bold', '> ')),
    signal,
    onHint: () => terminal.note(['\nCtrl-C again, Ctrl-D or /exit ends']),
    // In raw mode Ctrl-C is no signal; this has the effect of one.
    onEnd: () => process.emit('SIGINT'),
  });
  if (lines.interactive) terminal.note('/help lists commands, Ctrl-C stops an answer, /exit ends');
  let turn = 0;
  for (;;) {
    const line = await lines.next();
    const message = line?.trim();
    if (message === undefined || message === '/exit') return;
    if (message === '') continue;
    if (/^\/[a-z]+$/.test(message)) {
      if (message === '/reset') {
        for (const conversation of conversations) conversation.reset();
        terminal.note('the conversation is forgotten');
      } else if (message === '/help') terminal.note([help]);
      else terminal.warn(`there is no command ${message}; /help lists them`);
      continue;
    }
    try {
      const answers = await lines.stoppable(stop => answerAll(run, conversations, message, stop));
      turn++;
      if (options.json) terminal.jsonLine({ turn, user: message, answers });
      for (const answer of answers) noteAnswer(run, answer, answers.length > 1);
    } catch (error) {
      // A person can write another message. The next line of a pipe may depend on this one.
      const code = describeFailure(error).code;
      if (!lines.interactive || !['INVALID_ARGUMENT', 'DATA_INVALID'].includes(code)) throw error;
      terminal.error(formatFailure({ ...describeFailure(error), where: 'this message' }, terminal));
    }
  }
}

/** Prints the length and speed of an answer, and a warning if turns were forgotten. */
function noteAnswer({ terminal }: Run<ChatOptions>, answer: Answer, named: boolean): void {
  terminal.note(styled('dim', formatAnswer(answer, named)));
  terminal.detail(
    `${answer.reusedTokens} of the conversation's ${answer.promptTokens} tokens were in the KV cache`,
  );
  if (answer.forgotten > 0) {
    const turns = answer.forgotten === 1 ? 'turn' : `${answer.forgotten} turns`;
    terminal.warn(`${answer.model} has forgotten the oldest ${turns}: its context is full`);
  }
}

/** Lets all models answer one message, and prints the answers as they grow. */
async function answerAll(
  { terminal, signal, options }: Run<ChatOptions>,
  conversations: readonly Conversation[],
  message: string,
  stop: AbortSignal,
): Promise<Answer[]> {
  const begin = (conversation: Conversation) => conversation.answer(message, { stop, signal });
  if (options.json) return await finishAll(conversations.map(begin), () => {});
  const columns = terminal.columns('stdout');
  if (conversations.length > 1 && columns !== undefined && columns >= LEAST_COLUMNS) {
    const rule = terminal.isUnicode ? '│' : '|';
    const sides = new TwoColumns({
      ...{ columns, rows: terminal.rows!, rule, terminal },
      titles: conversations.map(({ name }) => name),
    });
    return await finishAll(
      conversations.map(begin),
      (side, piece) => sides.add(side, piece),
      side => sides.end(side),
    );
  }
  const answers: Answer[] = [];
  for (const conversation of conversations) {
    if (conversations.length > 1) {
      terminal.data(styled('dim', `[${conversation.name}]\n`));
    }
    answers.push(...(await finishAll([begin(conversation)], (_, piece) => terminal.verbatim(piece))));
    terminal.data('\n');
  }
  return answers;
}

/** Advances the answers in turn, one token each, since they share one device, until all are complete. */
async function finishAll(
  answers: readonly AsyncGenerator<string, Answer, void>[],
  onPiece: (index: number, piece: string) => void,
  onEnd: (index: number) => void = () => {},
): Promise<Answer[]> {
  const complete: Answer[] = [];
  let open = [...answers.entries()];
  while (open.length > 0) {
    for (const entry of open) {
      const [index, answer] = entry;
      const step = await answer.next();
      if (step.done) {
        complete[index] = step.value;
        open = open.filter(other => other !== entry);
        onEnd(index);
      } else {
        onPiece(index, step.value);
      }
    }
  }
  return complete;
}
