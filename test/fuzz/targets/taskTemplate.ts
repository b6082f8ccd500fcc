import { writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { prepareTask, readTaskFile } from '../../../model/tasks/index.js';
import { bytesOf } from '../files.js';
import { mutateJinja } from '../mutators/jinja.js';
import type { Target } from '../target.js';

const templates = [
  'Question: {{ question.strip() }}\nAnswer:',
  '{{ [question, ctx_a ~ " " ~ ctx_b.capitalize()] | join("\n") }}',
  "{{ choices | map('regex_replace', '\\\\[.*?\\\\]', '') | list }}",
  '{% if label == 0 %}A{% else %}{{ literal_eval("[1]")[0] }}{% endif %}',
];
const rows = [
  { question: ' what? ', ctx_a: 'a', ctx_b: 'the b', choices: ['x [y]', 'z'], label: 0 },
  { question: '', ctx_a: '', ctx_b: '', choices: ['x', 'z'], label: 1, range: 3, messages: [] },
];

/** A template of a task file: it makes the texts of two rows. */
export const target: Target = {
  // A template is stopped after five seconds, and Python takes one or two to start again.
  seconds: 20,
  corpus: async () => templates.map(bytesOf),
  mutate: mutateJinja,
  open: async folder => {
    const [path, data] = [join(folder, 'task.yaml'), join(folder, 'rows.jsonl')];
    writeFileSync(data, rows.map(row => `${JSON.stringify(row)}\n`).join(''));
    return async input => {
      const template = new TextDecoder().decode(input);
      await writeFile(
        path,
        JSON.stringify({
          ...{
            task: 'fuzz',
            output_type: 'multiple_choice',
            doc_to_text: template,
            fields: { derived: template },
          },
          ...{ doc_to_choice: '{{ choices }}', doc_to_target: 'label' },
        }),
      );
      await prepareTask({ task: await readTaskFile(path), rows: data }, {});
    };
  },
};
