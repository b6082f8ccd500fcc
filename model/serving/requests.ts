import { randomInt } from 'node:crypto';
import {
  entryOf,
  type Form,
  type Formed,
  finite,
  flag,
  isRecord,
  listOf,
  optional,
  orNull,
  record,
  text,
  whole,
} from '../../engine/index.js';
import type { SamplingOptions } from '../generation/sampler.js';
import type { ChatMessage } from '../text/conversation.js';
import { HttpFailure } from './httpFailure.js';

/** What both kinds of requests ask for. */
export interface Asked {
  readonly model: string | undefined;
  readonly stream: boolean;
  /** Whether a stream ends with the counts of tokens. */
  readonly streamUsage: boolean;
  /** Texts for each prompt. */
  readonly n: number;
  readonly stop: readonly string[];
  readonly sampling: SamplingOptions;
  readonly seed: number;
  /** Whether the text goes on after its end-of-text token. */
  readonly ignoreEos: boolean;
  /** Undefined: to the end of the context. */
  readonly maxTokens: number | undefined;
}

/** A prompt as text or as token ids. */
export type Prompt = string | readonly number[];

const given = <T>(form: Form<T>) => optional(orNull(form));
const either =
  <A, B>(a: Form<A>, b: Form<B>, what: string): Form<A | B> =>
  (value, place) =>
    a(value, place) && b(value, place) ? `${place} is not ${what}` : undefined;

const ids = listOf(whole(), 1);
const prompts: Form<Prompt | readonly Prompt[]> = either(
  either(text, ids, ''),
  either(listOf(text, 1), listOf(ids, 1), ''),
  'a text, a list of texts, a list of token ids or a list of such lists',
);

/** Most texts of one request: prompts times `n`. */
const MOST_TEXTS = 128;

const both = {
  model: given(text),
  stream: given(flag),
  stream_options: given(record({ include_usage: given(flag) })),
  n: given(whole(1, MOST_TEXTS)),
  stop: given(either(text, listOf(text, 0, 16), 'a text or a list of at most 16 texts')),
  temperature: given(finite(0, 100)),
  top_p: given(finite(0, 1)),
  top_k: given(whole(0)),
  repetition_penalty: given(finite(1e-3, 100)),
  seed: given(whole(Number.MIN_SAFE_INTEGER)),
  max_tokens: given(whole(1)),
  ignore_eos: given(flag),
};
const completion = record({ ...both, prompt: prompts });
const chat = record({
  ...both,
  max_completion_tokens: given(whole(1)),
  messages: listOf(
    record({ role: text, content: given(either(text, listOf(record({ type: text })), 'a text or a list')) }),
    1,
  ),
});

const is = (idle: unknown) => (value: unknown) => value === idle;
const isEmpty = (value: unknown) =>
  isRecord(value)
    ? Object.keys(value).length === 0 || value.type === 'text'
    : Array.isArray(value) && value.length === 0;

/** What changes the answer and is not done here, and whether a value asks for nothing. */
const notDone: Readonly<Record<string, (value: unknown) => boolean>> = {
  best_of: is(1),
  echo: is(false),
  suffix: is(''),
  logprobs: is(false),
  top_logprobs: is(0),
  frequency_penalty: is(0),
  presence_penalty: is(0),
  tools: isEmpty,
  functions: isEmpty,
  logit_bias: isEmpty,
  response_format: isEmpty,
};

function refuseNotDone(body: Readonly<Record<string, unknown>>): void {
  for (const [name, isIdle] of Object.entries(notDone)) {
    const value = entryOf(body, name);
    if (value === undefined || value === null || isIdle(value)) continue;
    throw new HttpFailure(400, `\`${name}\` is not supported`, {
      param: name,
      code: 'unsupported_parameter',
    });
  }
}

function readBody<F extends Form<unknown>>(body: Record<string, unknown>, form: F): Formed<F> {
  const problem = form(body, '');
  if (problem) throw new HttpFailure(400, problem, { param: /^\w+/.exec(problem)?.[0] ?? '' });
  refuseNotDone(body);
  return body as Formed<F>;
}

function asked(body: Formed<typeof completion> | Formed<typeof chat>, maxTokens: number | undefined): Asked {
  const { temperature, top_p: topP, top_k: topK, repetition_penalty: repeatPenalty, stop, seed } = body;
  if (topP === 0) throw new HttpFailure(400, '`top_p` is 0, not above 0', { param: 'top_p' });
  return {
    model: body.model ?? undefined,
    stream: body.stream ?? false,
    streamUsage: body.stream_options?.include_usage ?? false,
    n: body.n ?? 1,
    stop: typeof stop === 'string' ? [stop] : (stop ?? []),
    sampling: {
      ...(temperature != null && { temperature }),
      ...(topP != null && { topP }),
      ...(topK != null && { topK }),
      ...(repeatPenalty != null && { repeatPenalty }),
    },
    seed: seed ?? randomInt(2 ** 31),
    maxTokens,
    ignoreEos: body.ignore_eos ?? false,
  };
}

/** Reads the body of /v1/completions; fields that it does not know are ignored. @throws HttpFailure */
export function readCompletion(
  body: Record<string, unknown>,
): Asked & { readonly prompts: readonly Prompt[] } {
  const read = readBody(body, completion);
  const { prompt } = read;
  const one = typeof prompt === 'string' || typeof prompt[0] === 'number';
  const all = (one ? [prompt] : prompt) as readonly Prompt[];
  if (all.length * (read.n ?? 1) > MOST_TEXTS) {
    throw new HttpFailure(400, `more than ${MOST_TEXTS} texts in one request`, { param: 'prompt' });
  }
  return { ...asked(read, read.max_tokens ?? 16), prompts: all };
}

/** Reads the body of /v1/chat/completions; fields that it does not know are ignored. @throws HttpFailure */
export function readChat(
  body: Record<string, unknown>,
): Asked & { readonly messages: readonly ChatMessage[] } {
  const read = readBody(body, chat);
  const messages = (body.messages as readonly ChatMessage[]).map(message => ({
    ...message,
    content: contentOf(message),
  }));
  return { ...asked(read, read.max_completion_tokens ?? read.max_tokens ?? undefined), messages };
}

/** The text of a message; parts of it stand on lines of their own. */
function contentOf({ content }: ChatMessage): string {
  if (!Array.isArray(content)) return (content as string | null | undefined) ?? '';
  const parts = (content as readonly Record<string, unknown>[]).map(part => {
    if (part.type === 'text' && typeof part.text === 'string') return part.text;
    throw new HttpFailure(400, `content of type ${JSON.stringify(part.type)} is not supported`, {
      param: 'messages',
    });
  });
  return parts.join('\n');
}
