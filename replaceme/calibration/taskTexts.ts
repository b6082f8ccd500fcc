import { type Document, findTasks, prepareTask } from '../../model/index.js';

/** A task's rows as calibration texts. */
interface TaskTexts {
  /** The file with the rows. */
  readonly path: string;
  readonly documents: readonly Document[];
}

/**
 * Reads tasks as calibration texts, for a model that should do well on them. Every row becomes a document: its prompt
 * followed by the right answer, as in ReplaceMe's experiment with SciQ (arXiv:2505.02819, table 17). Documents follow
 * each other with an empty line between them, like examples in a prompt.
 *
 * @param words as findTasks understands them, such as "sciq=train.jsonl".
 * @throws RmError as findTasks and prepareTask.
 */
export async function readTaskTexts(words: readonly string[]): Promise<TaskTexts[]> {
  const texts: TaskTexts[] = [];
  for (const source of await findTasks(words, { fewshot: 0 })) {
    const { rowsFile, prompts } = await prepareTask(source, { fewshot: 0 });
    const documents = prompts.map(({ requests, gold }) => {
      const { context, continuation } = requests[gold[0] ?? 0]!;
      return { text: context + continuation };
    });
    texts.push({ path: rowsFile, documents });
  }
  return texts;
}
