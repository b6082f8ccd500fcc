import { join } from 'node:path';
import { loadChatTemplate } from '../../../model/text/chat.js';
import { asFile, bytesOf } from '../files.js';
import { mutateJinja } from '../mutators/jinja.js';
import type { Target } from '../target.js';

const templates = [
  "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
  "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}{{- system_message }}{%- for message in messages %}{%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}{{- raise_exception('Roles must alternate') }}{%- endif %}{{- message.content | trim + eos_token }}{%- endfor %}",
  "{% set ns = namespace(found=false) %}{% for m in messages %}{% if m.role == 'assistant' %}{% set ns.found = true %}{% endif %}{{ m | tojson }}{% endfor %}{{ ns.found }}",
  '{% macro show(m) %}[{{ m.role | upper }}] {{ m.content }}{% endmacro %}{% for m in messages %}{{ show(m) }}{% endfor %}',
];

const conversations = [
  [{ role: 'user', content: 'hello' }],
  [
    { role: 'system', content: 'be brief' },
    { role: 'user', content: ' a\nb ' },
    { role: 'assistant', content: 'c' },
  ],
] as const;

/** chat_template.jinja: two conversations are rendered. */
export const target: Target = {
  // A template is stopped after five seconds, and Python takes one or two to start again.
  seconds: 20,
  corpus: async () => templates.map(bytesOf),
  mutate: mutateJinja,
  open: async folder =>
    asFile(join(folder, 'chat_template.jinja'), async () => {
      const tokens = { specialTokens: { bos_token: '<s>', eos_token: '</s>' } };
      const chat = await loadChatTemplate(folder, tokens);
      for (const messages of conversations) await chat.renderChat(messages, { addGenerationPrompt: true });
    }),
};
