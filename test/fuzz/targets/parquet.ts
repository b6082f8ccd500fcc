import { writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readTaskFile } from '../../../model/tasks/taskFile.js';
import { readTaskRows } from '../../../model/tasks/taskRows.js';
import { readDocuments } from '../../../model/text/documents.js';
import { asFile, bytesOf, dataFile } from '../files.js';
import { mutateParquet } from '../mutators/parquet.js';
import type { Target } from '../target.js';

const task = { task: 'fuzz', output_type: 'loglikelihood', doc_to_text: 'question', doc_to_target: 'answer' };

/** A parquet file: as texts, and as rows of a task. */
export const target: Target = {
  corpus: async () => ['arc_easy', 'c3', 'mmlu'].map(name => dataFile('tasks', 'parquet', `${name}.parquet`)),
  mutate: mutateParquet,
  open: async folder => {
    const taskPath = join(folder, 'task.yaml');
    writeFileSync(taskPath, bytesOf(task));
    return asFile(join(folder, 'rows.parquet'), async path => {
      // Each starts a process: one of the two is enough.
      if ((await stat(path)).size % 2 === 0) await readTaskRows(await readTaskFile(taskPath), path);
      else for await (const _ of readDocuments(path, { textField: 'question' }));
    });
  },
};
