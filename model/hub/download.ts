import { checkArguments, RmError } from '../../engine/index.js';
import { aPath, runForms, settingsAmong } from '../arguments/forms.js';
import { findSnapshot, type Snapshot } from './findSnapshot.js';
import { forgetLocations } from './locate.js';
import { filesToDownload, isWeightFile } from './neededFiles.js';
import { type HubReference, hubName, parseHubReference } from './reference.js';
import { type DownloadOptions, downloadFiles } from './repositoryDownload.js';

export type { DownloadOptions } from './repositoryDownload.js';

/** The files of a model. @throws RmError DOWNLOAD_FAILED where the repository has none that this program reads. */
function modelFiles(reference: HubReference, paths: readonly string[]): string[] {
  const needed = filesToDownload(paths);
  if (needed.includes('config.json') && needed.some(isWeightFile)) return needed;
  const lacks = needed.includes('config.json')
    ? 'model.safetensors, in one file or in shards'
    : 'config.json';
  throw new RmError(
    'DOWNLOAD_FAILED',
    `${hubName(reference)}: its repository has no ${lacks}`,
    'Choose a model, or a revision of it, with safetensors weights.',
  );
}

/**
 * Downloads a model from the Hugging Face hub into huggingface_hub's cache, where other programs find it too:
 * configuration, tokenizer, card, licence and safetensors weights, but no other variants of the weights. Resumes a stopped
 * download; writes the revision's ref once all files are complete. Respects HF_ENDPOINT and HF_TOKEN. Needs the package
 * @huggingface/hub.
 *
 * @param name "org/name" or "org/name@revision".
 * @returns the snapshot's folder and its commit.
 * @throws RmError DOWNLOAD_FAILED, OUTPUT_FAILED, INVALID_ARGUMENT; the reason of `signal` once it is aborted.
 */
export async function downloadModel(name: string, options: DownloadOptions = {}): Promise<Snapshot> {
  checkArguments(
    'downloadModel',
    { name, options },
    { name: aPath, options: settingsAmong<DownloadOptions>(runForms) },
  );
  const reference = parseHubReference(name);
  if (!reference) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `${JSON.stringify(name)} is not the name of a model on the hub`,
      'Give org/name or org/name@revision.',
    );
  }
  const choose = (paths: readonly string[]) => modelFiles(reference, paths);
  const { commit } = await downloadFiles({ reference, kind: 'model', choose }, options);
  forgetLocations();
  return await findSnapshot({ ...reference, revision: commit });
}
