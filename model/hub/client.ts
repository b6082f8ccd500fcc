import { RmError } from '../../engine/index.js';

/** Version of @huggingface/hub that this was tested with, in package.json too. */
export const HUB_PACKAGE = '@huggingface/hub@2.17.5';

/** What the calls of @huggingface/hub take in common. */
interface Connection {
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
  readonly revision: string;
}

/** The part of @huggingface/hub that is used. Not its own types: it is an optional dependency, which may be absent. */
export interface HubClient {
  /** `additionalFields: ['sha']` for the commit that a revision is. */
  modelInfo(
    options: Connection & { name: string; additionalFields: string[] },
  ): Promise<{ readonly sha?: string }>;
  listFiles(options: Connection & { repo: string; recursive: boolean }): AsyncIterable<ListedFile>;
  /** A blob that asks for its bytes when it is read, a slice for its part only. */
  downloadFile(
    options: Connection & { repo: string; path: string; downloadInfo: DownloadInfo; xet: boolean },
  ): Promise<Blob | null>;
}

/** An entry of a repository. */
export interface ListedFile {
  readonly type: string;
  readonly path: string;
  readonly size: number;
  /** Git's hash of the entry. */
  readonly oid?: string;
  /** Of a large file: SHA-256 and size of its content. */
  readonly lfs?: { readonly oid: string; readonly size: number };
}

export interface DownloadInfo {
  readonly size: number;
  readonly etag: string;
  readonly url: string;
}

/** Loads @huggingface/hub, which nothing else does. @throws RmError DOWNLOAD_FAILED where it is not installed. */
export async function loadHubClient(): Promise<HubClient> {
  // A name that the compiler does not look up, for it may be absent.
  const name: string = '@huggingface/hub';
  try {
    return (await import(name)) as HubClient;
  } catch (error) {
    throw new RmError(
      'DOWNLOAD_FAILED',
      `the package @huggingface/hub, which downloads models, cannot be loaded: ${(error as Error).message.split('\n')[0]}`,
      `npm install ${HUB_PACKAGE}`,
      { cause: error },
    );
  }
}
