import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { formatSeconds } from '../../engine/format.js';
import type { Model } from '../../model/transformer/model.js';
import { withDevice } from '../device/gpu.js';
import { findModels, MODEL_TEXT, type ModelFlags, withDownload } from '../options/models.js';
import { type SamplingFlags, samplingOf, withSamplingOptions } from '../options/samplingOptions.js';
import { loadTextTools, type TextTools } from '../options/sequences.js';
import { newCommand, type Run, runs } from '../terminal/command.js';
import { describeFailure, formatFailure } from '../terminal/failure.js';
import type { Answer, Conversation } from './conversation.js';
import { MessageLines } from './messageLines.js';
import { TwoColumns } from './twoColumns.js';

interface ChatOptions extends SamplingFlags, ModelFlags {
  against?: string;
  system?: string;
  json?: boolean;
}

/** Two columns narrower than this are hard to read. */
const LEAST_COLUMNS = 72;

const details = `Each line is a message; the model answers through its chat template and remembers what was said. A model without one
goes on writing where the line ended. When the conversation no longer fits the model's context, its oldest turns are
forgotten. With --against two models answer every message, each with its own tokenizer, template and memory: side by side
where the terminal is at least ${LEAST_COLUMNS} columns wide, else one after the other.

Lines /reset (forget what was said), /help and /exit are commands. Ctrl-C stops the answer, twice ends. From a pipe every
line is a message, and answers are all that is on stdout; with --json every turn is one object in a line:
{turn, user, answers: [{model, text, ids, stopped, promptTokens, reusedTokens, seconds, forgotten}]}.`;

const help = `/reset  forget what was said
/exit   end (also Ctrl-D)
/help   this
Ctrl-C stops an answer, twice ends.`;

/** "42 tokens in 2.1 s, 20.0 tokens/s"; `names` where there are several models. */
export function formatAnswer({ model, ids, seconds, stopped }: Answer, names: boolean): string {
  const ends = {
    end: '',
    length: ', cut at --max-tokens',
    context: ', context full',
    interrupted: ', stopped',
  };
  const speed = seconds > 0 ? `, ${(ids.length / seconds).toPrecision(3)} tokens/s` : '';
  return `${names ? `${model}: ` : ''}${ids.length} tokens in ${formatSeconds(seconds)}${speed}${ends[stopped]}`;
}

/** A name for each folder, short where that tells them apart. */
export function modelNames(folders: readonly string[]): string[] {
  const short = folders.map(folder => basename(resolve(folder)));
  return new Set(short).size === short.length ? short : [...folders];
}

/** `chat MODEL` */
export function chatCommand(signal: AbortSignal): Command {
  const command = newCommand('chat', {
    summary: 'talk with a model, or with two side by side',
    details,
    args: [['<model>', MODEL_TEXT]],
    examples: [
      'rm-engine chat ./pruned',
      'rm-engine chat ./pruned --against ./SmolLM2-135M-Instruct --temperature 0.7',
      'rm-engine chat ./pruned --system "Answer in one sentence." --json < questions.txt',
    ],
  })
    .option('--against <model>', 'this model answers too')
    .option('--system <text>', 'a system message before the conversation');
  withSamplingOptions(command, 512).option('--json', 'print one JSON object per turn, in a line');
  return runs<ChatOptions>(withDownload(command), signal, async (run, model) => {
    const { options, terminal } = run;
    const folders = [model as string, ...(options.against === undefined ? [] : [options.against])];
    const names = modelNames(folders);
    await findModels(run, folders);
    const tools: TextTools[] = [];
    for (const [i, folder] of folders.entries()) {
      const loaded = await loadTextTools(folder);
      if (!loaded.chat.available)
        terminal.note(`${names[i]} has no chat template: it goes on writing your lines`);
      tools.push(loaded);
    }
    const [{ Model }, { Conversation }] = await Promise.all([
      import('../../model/transformer/model.js'),
      import('./conversation.js'),
    ]);
    await withDevice(run, async device => {
      const models: Model[] = [];
      const conversations: Conversation[] = [];
      run.progress.steps(folders.length);
      try {
        for (const [i, folder] of folders.entries()) {
          run.progress.nextStep();
          const loaded = await Model.load(device, folder, { onProgress: run.progress });
          models.push(loaded);
          conversations.push(
            new Conversation(names[i]!, loaded, tools[i]!, {
              ...samplingOf(options),
              system: options.system,
            }),
          );
        }
        await converse(run, conversations);
      } finally {
        for (const owner of [...conversations, ...models]) owner.dispose();
      }
    });
  });
}

/** Reads messages and answers them until there are no more. */
async function converse(run: Run<ChatOptions>, conversations: readonly Conversation[]): Promise<void> {
  const { terminal, signal, options } = run;
  using lines = new MessageLines(process.stdin, process.stderr, {
    prompt: terminal.style('stderr', 'bold', '> '),
    signal,
    onHint: () => terminal.note('\nCtrl-C again, Ctrl-D or /exit ends'),
    // As a signal from outside would, which this Ctrl-C is not while the terminal is in raw mode.
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
      if (message === '/reset') for (const conversation of conversations) conversation.reset();
      if (message === '/reset') terminal.note('nothing said so far');
      else if (message === '/help') terminal.note(help);
      else terminal.warn(`there is no command ${message}; /help lists them`);
      continue;
    }
    try {
      const answers = await lines.stoppable(stop => answerAll(run, conversations, message, stop));
      turn++;
      if (options.json) terminal.jsonLine({ turn, user: message, answers });
      for (const answer of answers) tell(run, answer, answers.length > 1);
    } catch (error) {
      // A person can write another message; the next line of a pipe may build on this one.
      const code = describeFailure(error).code;
      if (!lines.interactive || !['INVALID_ARGUMENT', 'DATA_INVALID'].includes(code)) throw error;
      terminal.error(formatFailure({ ...describeFailure(error), where: 'this message' }, terminal));
    }
  }
}

function tell({ terminal }: Run<ChatOptions>, answer: Answer, names: boolean): void {
  terminal.note(terminal.style('stderr', 'dim', formatAnswer(answer, names)));
  terminal.detail(
    `${answer.reusedTokens} of ${answer.promptTokens} tokens of the conversation from the KV cache`,
  );
  if (answer.forgotten > 0) {
    const turns = answer.forgotten === 1 ? 'turn' : `${answer.forgotten} turns`;
    terminal.warn(`${answer.model} has forgotten the oldest ${turns}: its context is full`);
  }
}

/** The answers of all to one message, shown while they are made. */
async function answerAll(
  { terminal, signal, options }: Run<ChatOptions>,
  conversations: readonly Conversation[],
  message: string,
  stop: AbortSignal,
): Promise<Answer[]> {
  const begin = (conversation: Conversation) => conversation.answer(message, { stop, signal });
  if (options.json) return await taken(conversations.map(begin), () => {});
  const columns = terminal.columns('stdout');
  if (conversations.length > 1 && columns !== undefined && columns >= LEAST_COLUMNS) {
    const rule = terminal.isUnicode ? '│' : '|';
    const sides = new TwoColumns({
      ...{ columns, rows: terminal.rows!, rule },
      title: text => terminal.style('stdout', 'dim', text),
      titles: conversations.map(({ name }) => name),
      write: text => terminal.data(text),
    });
    return await taken(
      conversations.map(begin),
      (side, piece) => sides.add(side, piece),
      side => sides.end(side),
    );
  }
  const answers: Answer[] = [];
  for (const conversation of conversations) {
    if (conversations.length > 1) {
      terminal.data(terminal.style('stdout', 'dim', `[${conversation.name}]\n`));
    }
    answers.push(...(await taken([begin(conversation)], (_, piece) => terminal.data(piece))));
    terminal.data('\n');
  }
  return answers;
}

/** Takes a step of each answer in turn, for they share one device, until all are complete. */
async function taken(
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
