import type { ChatMessage } from './conversation.js';
import type { TextReader } from './textReader.js';

/**
 * Encodes a conversation so that the model answers it: by its chat template, or, for a model without one, as lines of text
 * that it continues, each with the answer it got.
 *
 * @throws RmError DATA_INVALID if the template refuses the messages.
 */
export async function encodeMessages(
  { tokenizer, chat }: TextReader,
  messages: readonly ChatMessage[],
): Promise<number[]> {
  if (chat.available) {
    const text = await chat.renderChat(messages, { addGenerationPrompt: true });
    return tokenizer.encode(text, { addSpecialTokens: false });
  }
  const lines: string[] = [];
  for (const { role, content } of messages) {
    if (role === 'assistant' && lines.length > 0) lines.push(`${lines.pop()}${content ?? ''}`);
    else lines.push(String(content ?? ''));
  }
  return tokenizer.encode(lines.join('\n'));
}
