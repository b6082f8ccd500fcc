import { type Document, findTasks, prepareTask } from '../../model/index.js';

/** A task's rows as texts to calibrate with. */
export interface TaskTexts {
  /** File of the rows. */
  readonly path: string;
  readonly documents: readonly Document[];
}

/**
 * Tasks as calibration texts, for a model that is to be good at these: every row is a document, its prompt followed by
 * the right answer, as ReplaceMe's experiment with SciQ (arXiv:2505.02819, table 17). Documents stand one behind the
 * other with an empty line between, like examples in a prompt.
 *
 * @param words as findTasks understands them, such as "sciq=train.jsonl".
 * @throws RmError as findTasks and prepareTask.
 */
export async function readTaskTexts(words: readonly string[]): Promise<TaskTexts[]> {
  const texts: TaskTexts[] = [];
  for (const source of await findTasks(words)) {
    const { rowsFile, prompts } = await prepareTask(source, { fewshot: 0 });
    const documents = prompts.map(({ requests, gold }) => {
      const { context, continuation } = requests[gold[0] ?? 0]!;
      return { text: context + continuation };
    });
    texts.push({ path: rowsFile, documents });
  }
  return texts;
}
