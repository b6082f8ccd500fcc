/** A model on the Hugging Face hub: `org/name`, or `org/name@revision`. */
export interface HubReference {
  /** "org/name", or only "name" for some old models. */
  readonly repo: string;
  /** Branch, tag, "refs/pr/1" or the beginning of a commit's hash. */
  readonly revision: string;
  /** Whether the caller named the revision; else it is "main". */
  readonly pinned: boolean;
}

const DEFAULT_REVISION = 'main';

// The rule of huggingface_hub's validate_repo_id.
const name = /^(?!.*(--|\.\.))(?!.*\.git$)[\w](?:[\w.-]{0,94}\w)?$/;
/** Characters that git allows in a branch or tag and that need no quoting in a shell. */
const revisionName = /^(?!.*(\.\.|\/\/|@\{))(?!\/)[\w./+=-]{1,200}(?<![./])$/;
/** Single files are paths. */
const file = /\.(gguf|safetensors|json)$/i;

/** Parses "org/name" or "org/name@revision" without looking at the disk; undefined if the text can only be a path. */
export function parseHubReference(text: string): HubReference | undefined {
  const at = text.indexOf('@');
  const [repo, revision] = at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)];
  const parts = repo.split('/');
  if (parts.length > 2 || !parts.every(part => name.test(part)) || file.test(repo)) return undefined;
  if (revision !== undefined && !revisionName.test(revision)) return undefined;
  return { repo, revision: revision ?? DEFAULT_REVISION, pinned: revision !== undefined };
}

/** Whether a value is "org/name" as the hub has it, without a revision. */
export const isHubName = (value: unknown): value is string =>
  typeof value === 'string' && parseHubReference(value)?.repo === value && value.includes('/');

/** "org/name", with "@revision" if the caller named one. */
export const hubName = ({ repo, revision, pinned }: HubReference): string =>
  pinned ? `${repo}@${revision}` : repo;

/** The huggingface_hub command that downloads the model into the cache. */
export const downloadCommand = ({ repo, revision, pinned }: HubReference): string =>
  `hf download ${repo}${pinned ? ` --revision ${revision}` : ''}`;
