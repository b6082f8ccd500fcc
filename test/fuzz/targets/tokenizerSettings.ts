import { writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { byteTokenizer } from '../../../bench/byteTokenizer.js';
import { openTextReader } from '../../../model/index.js';
import { bytesOf } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';

const template = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
const files = ['tokenizer_config.json', 'special_tokens_map.json', 'generation_config.json'];
const words = [
  'eos_token',
  'bos_token',
  'chat_template',
  'eos_token_id',
  'bos_token_id',
  'add_bos_token',
  '<end>',
  'default',
];

/** The small JSON files beside tokenizer.json: what holds one file is read as each of them. */
export const target: Target = {
  // A template is stopped after five seconds, and Python takes one or two to start again.
  seconds: 20,
  corpus: async () => [
    bytesOf({
      tokenizer_class: 'PreTrainedTokenizerFast',
      eos_token: '<end>',
      bos_token: { content: 'a' },
      chat_template: template,
    }),
    bytesOf({
      chat_template: [
        { name: 'default', template },
        { name: 'tool_use', template: '' },
      ],
      model_max_length: 1e30,
    }),
    bytesOf({ eos_token_id: [256, 257], bos_token_id: 0, pad_token_id: null }),
    bytesOf({ added_tokens_decoder: { 256: { content: '<end>', special: true } }, extra_special_tokens: {} }),
  ],
  mutate: jsonMutator(words),
  open: async folder => {
    writeFileSync(join(folder, 'tokenizer.json'), bytesOf(byteTokenizer()));
    return async input => {
      for (const file of files) await writeFile(join(folder, file), input);
      const { tokenizer: opened, chat } = await openTextReader(folder);
      using tokenizer = opened;
      await tokenizer.encode('text');
      if (chat.available) await chat.renderChat([{ role: 'user', content: 'hello' }]);
    };
  },
};
