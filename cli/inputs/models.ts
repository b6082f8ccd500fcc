import type { Command } from 'commander';
import { RmError } from '../../engine/errors.js';
import type { Run } from '../terminal/command.js';

/** Options of commands that take a model. */
export interface ModelFlags {
  download?: boolean;
}

/** What may stand for a model. */
export const MODEL_TEXT = 'model folder, .gguf file, or org/name[@revision] in the Hugging Face cache';

/** Gives a command --download, of models and of what else it takes from the hub. */
export const withDownload = (command: Command, more = ''): Command =>
  command.option('--download', `download models that are not in the Hugging Face cache${more}`);

/** The places that no output may touch; see the library's function of this name, which is loaded only now. */
export const inputPaths: typeof import('../../model/hub/inputPaths.js').inputPaths = async (models, others) =>
  (await import('../../model/hub/inputPaths.js')).inputPaths(models, others);

type FindingRun = Pick<Run<ModelFlags>, 'options' | 'terminal' | 'progress' | 'signal'>;

/**
 * Makes sure that the models of a command line are there before other work is done for them: says which commit a name
 * stands for, downloads where --download asks for it, and warns of files that contradict each other.
 *
 * @throws RmError as locateModel and downloadModel.
 */
export async function findModels(run: FindingRun, models: readonly (string | undefined)[]): Promise<void> {
  for (const model of new Set(models)) {
    if (model === undefined) continue;
    await findModel(run, model);
    const { modelWarnings } = await import('../../model/source/modelWarnings.js');
    // Whoever uses the model reports what is wrong with it.
    for (const warning of await modelWarnings(model).catch(() => [])) run.terminal.warn(warning);
  }
}

async function findModel({ options, terminal, progress, signal }: FindingRun, model: string): Promise<void> {
  const { hiddenReference, locateModel, namedModel } = await import('../../model/hub/locate.js');
  if (await hiddenReference(model)) {
    terminal.note(
      `${model} is a path here and is used, not the model of that name in the Hugging Face cache`,
    );
  }
  try {
    const { path, snapshot } = await locateModel(model);
    if (snapshot) terminal.note(`${model}: commit ${snapshot.commit} in the Hugging Face cache`);
    // A word alone is taken for a path unless it is to be downloaded.
    if (snapshot || !options.download || !(await namedModel(path))) return;
  } catch (error) {
    const absent = error instanceof RmError && error.code === 'CHECKPOINT_MISSING';
    if (!options.download || !absent) throw error;
  }
  const { downloadModel } = await import('../../model/hub/download.js');
  const { folder } = await downloadModel(model, { onProgress: progress, signal });
  terminal.note(`${model}: downloaded to ${folder}`);
}
