import { RmError } from '../../engine/index.js';
import type { ChatTemplate } from '../text/chat.js';
import type { ChatMessage } from '../text/conversation.js';
import { isSpace } from './pythonText.js';

/** A turn of a prompt, and what follows it in plain text. */
export interface Turn {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
  readonly delimiter: string;
}

/** How prompts are written for a model; without a chat template as plain text. */
export interface PromptStyle {
  /** The model's chat template. */
  readonly chat?: ChatTemplate | undefined;
  /** With a chat template: every example is a question and an answer (default), or all stand in the user's one message. */
  readonly fewshotAsMultiturn?: boolean | undefined;
  /** Comes before everything; with a chat template as the system's message. */
  readonly systemInstruction?: string | undefined;
}

/** Joins two texts, with the delimiter between them unless one is empty or has white space there. */
function delimited(before: string, after: string, delimiter: string): string {
  if (before === '' || after === '') return before + after;
  const spaced = isSpace(before.at(-1)!) || isSpace(after[0]!);
  return before + (spaced ? '' : delimiter) + after;
}

const plain = (turns: readonly Turn[]): string =>
  turns.map(({ content, delimiter }) => content + delimiter).join('');

/** Writes prompts as lm-eval 0.4.13 does. */
export class PromptWriter {
  #withoutSystem = false;

  constructor(private readonly style: PromptStyle) {}

  /** Whether a chat template refused the system's message, and prompts went without it. */
  get withoutSystem(): boolean {
    return this.#withoutSystem;
  }

  /** The instruction and the task's description as a turn; none where both are empty. */
  system(description: string, delimiter: string): Turn[] {
    const content = delimited(this.style.systemInstruction ?? '', description, delimiter);
    return content === '' ? [] : [{ role: 'system', content, delimiter: '' }];
  }

  /** What lm-eval puts between a prompt and a choice: a chat template begins the answer itself. */
  beforeChoice(delimiter: string): string {
    return this.style.chat ? '' : delimiter;
  }

  /** @throws RmError CONFIG_INVALID, DATA_INVALID, as renderChat. */
  async write(turns: readonly Turn[]): Promise<string> {
    const { chat, fewshotAsMultiturn = true } = this.style;
    if (!chat) return plain(turns);
    const system = turns.filter(({ role }) => role === 'system');
    const others = turns.slice(system.length);
    const messages = fewshotAsMultiturn ? others : [{ role: 'user', content: plain(others) }];
    const render = (all: readonly { role: string; content: string }[]) =>
      chat.renderChat(
        all.map(({ role, content }): ChatMessage => ({ role, content })),
        { addGenerationPrompt: true },
      );
    try {
      return await render([...system, ...messages]);
    } catch (error) {
      if (system.length === 0 || !(error instanceof RmError) || error.code !== 'DATA_INVALID') throw error;
      this.#withoutSystem = true;
      return render(messages);
    }
  }
}
