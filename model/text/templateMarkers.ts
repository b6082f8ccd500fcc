import { RmError } from '../../engine/index.js';
import { openModelSource } from '../source/openModelSource.js';
import type { ChatTemplate } from './chat.js';
import { readTemplates } from './chatTemplateFiles.js';
import type { Tokenizer } from './tokenizer.js';

/** What chat templates write between turns as one token: <|im_start|>, <start_of_turn> ... */
const marker = /<[|｜][^<>\s]+[|｜]>|<(?:start|end)_of_turn>/g;

/**
 * A GGUF file's chat template, which refuses conversations in which it writes a marker that is no token of the file's
 * vocabulary: the model would read its letters. A folder has more than one file to tell of tokens, and transformers to say
 * what is right.
 */
export async function withKnownMarkers(
  model: string,
  chat: ChatTemplate,
  tokenizer: Tokenizer,
): Promise<ChatTemplate> {
  const templates = await readTemplates(await openModelSource(model));
  const written = new Set([...templates.values()].flatMap(({ text }) => text.match(marker) ?? []));
  if (written.size === 0) return chat;
  const known = new Set<string>();
  return {
    ...chat,
    renderChat: async (messages, options) => {
      const text = await chat.renderChat(messages, options);
      for (const found of new Set(text.match(marker))) {
        if (known.has(found) || !written.has(found)) continue;
        const { length } = await tokenizer.encode(found, { addSpecialTokens: false });
        if (length !== 1) throw unknownMarker(model, found);
        known.add(found);
      }
      return text;
    },
  };
}

const unknownMarker = (model: string, found: string): RmError =>
  new RmError(
    'CONFIG_INVALID',
    `${model}: the chat template writes ${found}, which is no special token of the file's vocabulary`,
    'Use plain text instead of messages, or a file whose vocabulary has the tokens of its template.',
  );
