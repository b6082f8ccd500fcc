import { randomUUID } from 'node:crypto';
import type { Choice, Usage } from './writeChoices.js';

/** What differs between the answers of the two kinds of requests. */
export interface AnswerForm {
  readonly prefix: string;
  readonly object: string;
  readonly chunkObject: string;
  whole(choice: Choice): object;
  /** The first piece of a stream, before there is text; undefined if there is none. */
  opening(): object | undefined;
  piece(text: string): object;
  closing(): object;
}

/** Answers of /v1/completions. */
export const completionForm: AnswerForm = {
  ...{ prefix: 'cmpl-', object: 'text_completion', chunkObject: 'text_completion' },
  whole: ({ text }) => ({ text, logprobs: null }),
  opening: () => undefined,
  piece: text => ({ text, logprobs: null }),
  closing: () => ({ text: '', logprobs: null }),
};

/** Answers of /v1/chat/completions. */
export const chatForm: AnswerForm = {
  ...{ prefix: 'chatcmpl-', object: 'chat.completion', chunkObject: 'chat.completion.chunk' },
  whole: ({ text }) => ({ message: { role: 'assistant', content: text, refusal: null }, logprobs: null }),
  opening: () => ({ delta: { role: 'assistant', content: '' } }),
  piece: text => ({ delta: { content: text } }),
  closing: () => ({ delta: {} }),
};

/** The objects of one answer, which share id, time and model. */
export class Answer {
  readonly #head: { readonly id: string; readonly created: number; readonly model: string };

  constructor(
    private readonly form: AnswerForm,
    model: string,
  ) {
    this.#head = { id: form.prefix + randomUUID(), created: Math.floor(Date.now() / 1000), model };
  }

  /** All at once. */
  whole(choices: readonly Choice[], usage: Usage): object {
    const { object } = this.form;
    return {
      ...{ ...this.#head, object, usage },
      choices: choices.map(choice => ({
        ...{ index: choice.index, finish_reason: choice.finishReason },
        ...this.form.whole(choice),
      })),
    };
  }

  /** A piece of a stream. */
  chunk(index: number, content: object, finishReason: Choice['finishReason'] | null = null): object {
    return this.#chunk([{ index, ...content, finish_reason: finishReason }]);
  }

  /** The last piece of a stream whose client wants the counts. */
  usage(usage: Usage): object {
    return { ...this.#chunk([]), usage };
  }

  #chunk(choices: readonly object[]): object {
    return { ...this.#head, object: this.form.chunkObject, choices };
  }
}
