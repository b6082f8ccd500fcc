/** A model on the Hugging Face hub: `org/name`, or `org/name@revision`. */
export interface HubReference {
  /** "org/name", of some old models only "name". */
  readonly repo: string;
  /** Branch, tag, "refs/pr/1" or the beginning of a commit's hash. */
  readonly revision: string;
  /** Whether `revision` was given and is not the usual "main". */
  readonly pinned: boolean;
}

const DEFAULT_REVISION = 'main';

// As huggingface_hub's validate_repo_id has it.
const name = /^(?!.*(--|\.\.))(?!.*\.git$)[\w](?:[\w.-]{0,94}\w)?$/;
/** What git allows in the name of a branch or tag, without what no shell would leave alone. */
const revisionName = /^(?!.*(\.\.|\/\/|@\{))(?!\/)[\w./+=-]{1,200}(?<![./])$/;
/** Single files are paths. */
const file = /\.(gguf|safetensors|json)$/i;

/** What "org/name@revision" names, or undefined where the text can only be a path. Looks at nothing on disk. */
export function parseHubReference(text: string): HubReference | undefined {
  const at = text.indexOf('@');
  const [repo, revision] = at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
  const parts = repo.split('/');
  if (parts.length > 2 || !parts.every(part => name.test(part)) || file.test(repo)) return undefined;
  if (revision !== undefined && !revisionName.test(revision)) return undefined;
  return { repo, revision: revision ?? DEFAULT_REVISION, pinned: revision !== undefined };
}

/** "org/name", with "@revision" where one was given. */
export const hubName = ({ repo, revision, pinned }: HubReference): string =>
  pinned ? `${repo}@${revision}` : repo;

/** The command of huggingface_hub that puts the model into the cache. */
export const downloadCommand = ({ repo, revision, pinned }: HubReference): string =>
  `hf download ${repo}${pinned ? ` --revision ${revision}` : ''}`;
