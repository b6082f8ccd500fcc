import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadChatTemplate } from '../../model/text/chat.js';
import type { ChatMessage } from '../../model/text/conversation.js';
import { loadTokenizer } from '../../model/text/tokenizer.js';
import { saySkipped, sharedPath } from '../support.js';

interface Rendered {
  text: string;
  ids: number[];
}
interface Golden {
  strings: { text: string; ids: number[]; ids_with_special: number[] }[];
  chats: { messages: ChatMessage[]; rendered: Rendered; rendered_with_generation_prompt: Rendered }[];
}

const goldenPath = sharedPath('golden', 'smollm2', 'tokenizer.json');
const folder = sharedPath('models', 'smollm2-tokenizer');

if (!goldenPath || !folder) {
  saySkipped('tokenizer ids against shared/golden: no shared folder');
} else {
  const golden = JSON.parse(readFileSync(goldenPath, 'utf8')) as Golden;

  test('ids of all strings equal those of the Rust tokenizer, and decode back', async () => {
    const tokenizer = await loadTokenizer(folder);
    assert.ok(golden.strings.length > 100);
    for (const { text, ids, ids_with_special } of golden.strings) {
      assert.equal(await tokenizer.encode(text, { addSpecialTokens: false }), ids, JSON.stringify(text));
      assert.equal(await tokenizer.encode(text), ids_with_special, JSON.stringify(text));
      assert.is(await tokenizer.decode(ids), text);
    }
  });

  test('a text stream gives the same text piece by piece, without broken characters', async () => {
    const tokenizer = await loadTokenizer(folder);
    for (const { text, ids } of golden.strings) {
      const stream = tokenizer.createTextStream();
      const pieces: string[] = [];
      for (const id of ids) pieces.push(await stream.push(id));
      pieces.push(await stream.end());
      assert.is(pieces.join(''), text);
      if (!text.includes('\ufffd'))
        assert.not.ok(
          pieces.some(piece => piece.includes('\ufffd')),
          text,
        );
    }
  });

  test('special ids and the vocabulary', async () => {
    const tokenizer = await loadTokenizer(folder);
    assert.is(tokenizer.vocabSize, 49152);
    assert.is(tokenizer.bosId, 1);
    assert.equal(tokenizer.eosIds, [2]);
    assert.is(tokenizer.specialTokens.eos_token, '<|im_end|>');
  });

  test('chats render and encode as in transformers', async () => {
    const tokenizer = await loadTokenizer(folder);
    const chat = await loadChatTemplate(folder, tokenizer);
    assert.ok(chat.available);
    for (const { messages, rendered, rendered_with_generation_prompt } of golden.chats) {
      for (const [addGenerationPrompt, expected] of [
        [false, rendered],
        [true, rendered_with_generation_prompt],
      ] as const) {
        const text = await chat.renderChat(messages, { addGenerationPrompt });
        assert.is(text, expected.text);
        assert.equal(await tokenizer.encode(text, { addSpecialTokens: false }), expected.ids);
      }
    }
  });
}

test.run();
