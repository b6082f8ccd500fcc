import { RmError, reasonOf } from '../../engine/index.js';

/** The tested version of @huggingface/hub, as in package.json. */
const HUB_PACKAGE = '@huggingface/hub@2.17.5';

/** Options common to all calls of @huggingface/hub. */
interface Connection {
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
  readonly revision: string;
}

/** The part of @huggingface/hub used here, declared by hand because the package is an optional dependency. */
export interface HubClient {
  /** `additionalFields: ['sha']` returns the commit of a revision. */
  modelInfo(
    options: Connection & { name: string; additionalFields: string[] },
  ): Promise<{ readonly sha?: string }>;
  datasetInfo: HubClient['modelInfo'];
  listFiles(
    options: Connection & { repo: { type: string; name: string }; recursive: boolean },
  ): AsyncIterable<ListedFile>;
}

/** An entry of a repository. */
export interface ListedFile {
  readonly type: string;
  readonly path: string;
  readonly size: number;
  /** Git's hash of the entry. */
  readonly oid?: string;
  /** Set for a large file: SHA-256 and size of its content. */
  readonly lfs?: { readonly oid: string; readonly size: number };
}

/** Loads @huggingface/hub on first use. @throws RmError DOWNLOAD_FAILED if it is not installed. */
export async function loadHubClient(): Promise<HubClient> {
  // Typed as string so that the compiler does not resolve a package that may be absent.
  const name: string = '@huggingface/hub';
  try {
    return (await import(name)) as HubClient;
  } catch (error) {
    throw new RmError(
      'DOWNLOAD_FAILED',
      `the package @huggingface/hub, needed to download models, cannot be loaded: ${reasonOf(error)}`,
      `Install it beside rm-engine: npm install ${HUB_PACKAGE}`,
      { cause: error },
    );
  }
}
