import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a request for bytes is answered with, in place of the file. */
export type Trouble = (request: IncomingMessage, response: ServerResponse, content: Buffer) => boolean;

/** A stand-in for huggingface.co with one model, whose branch main is `commit`. */
export interface HubServer {
  readonly url: string;
  readonly commit: string;
  /** Paths asked for, each with its range. */
  readonly requests: string[];
  /** Authorization headers that came with them. */
  readonly tokens: Set<string | undefined>;
  trouble: Trouble | undefined;
  /** Answers a request for the listing in its place; undefined: as it is. */
  listing:
    | ((entries: ListedEntry[], request: IncomingMessage, response: ServerResponse) => unknown)
    | undefined;
  /** Leads a request for weights elsewhere. */
  location: ((usual: string) => string) | undefined;
  close(): Promise<void>;
}

/** An entry of the listing, as the hub's API has it. */
export interface ListedEntry {
  type: string;
  path: string;
  oid?: unknown;
  size?: unknown;
  lfs?: { oid: unknown; size: unknown; pointerSize: number };
}

export const gitHash = (content: Buffer): string =>
  createHash('sha1').update(`blob ${content.byteLength}\0`).update(content).digest('hex');

/** Weights are large files, kept apart: asking for them leads to another address, as the real hub's storage. */
const isLarge = (path: string): boolean => /\.(safetensors|parquet)$/.test(path);

/** Answers with the part asked for. */
function sendRange(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const match = /^bytes=(\d+)-(\d+)?$/.exec(request.headers.range ?? '');
  const first = Number(match?.[1] ?? 0);
  const last = Math.min(Number(match?.[2] ?? content.byteLength - 1), content.byteLength - 1);
  response.writeHead(match ? 206 : 200, {
    'content-length': last - first + 1,
    ...(match && { 'content-range': `bytes ${first}-${last}/${content.byteLength}` }),
  });
  response.end(content.subarray(first, last + 1));
}

/** Starts it. @param files by path. @param token without which nothing is given, if any. @param model its name, or that of a data set. */
export async function startHub(
  files: ReadonlyMap<string, Buffer>,
  token?: string,
  model = 'org/name',
  kind: 'models' | 'datasets' = 'models',
): Promise<HubServer> {
  const commit = 'c0ffee'.padEnd(40, '0');
  const sha256 = (content: Buffer) => createHash('sha256').update(content).digest('hex');
  const entries = [...files].map(
    ([path, content]): ListedEntry => ({
      ...{ type: 'file', path, oid: gitHash(content), size: content.byteLength },
      ...(isLarge(path) && { lfs: { oid: sha256(content), size: content.byteLength, pointerSize: 134 } }),
    }),
  );
  const place = kind === 'models' ? '' : '/datasets';
  const json = (response: ServerResponse, value: unknown, status = 200) => {
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(JSON.stringify(value));
  };
  const storage = createServer((request, response) => {
    hub.tokens.add(request.headers.authorization && `storage ${request.headers.authorization}`);
    const content = files.get(decodeURI(request.url!.slice(1)))!;
    if (!hub.trouble?.(request, response, content)) sendRange(request, response, content);
  });
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url!, 'http://hub');
    const { authorization, range } = request.headers;
    hub.requests.push(`${pathname}${range ? ` ${range}` : ''}`);
    if (token !== undefined && authorization !== `Bearer ${token}`) {
      json(response, { error: 'Invalid credentials' }, 401);
      return;
    }
    hub.tokens.add(authorization);
    const revision = pathname.split(`/api/${kind}/${model}/revision/`)[1];
    if (revision && /^(main|HEAD|c0ffee\d*|refs%2Fconvert%2Fparquet)$/.test(revision)) {
      json(response, { _id: '1', id: model, sha: commit, lastModified: '2024-01-01T00:00:00Z' });
    } else if (pathname === `/api/${kind}/${model}/tree/${commit}`) {
      const all = [
        { type: 'directory', path: 'additional_chat_templates', oid: '0' },
        ...structuredClone(entries),
      ];
      const changed = hub.listing ? hub.listing(all, request, response) : all;
      if (!response.headersSent) json(response, changed);
    } else if (pathname.startsWith(`${place}/${model}/resolve/${commit}/`)) {
      const path = decodeURI(pathname.slice(`${place}/${model}/resolve/${commit}/`.length));
      const content = files.get(path)!;
      if (isLarge(path)) {
        const usual = `${addressOf(storage)}/${path}`;
        response.writeHead(302, { location: hub.location?.(usual) ?? usual }).end();
      } else if (!hub.trouble?.(request, response, content)) sendRange(request, response, content);
    } else {
      json(response, { error: 'Repository not found' }, 404);
    }
  });
  const addressOf = (of: typeof server) => `http://127.0.0.1:${(of.address() as AddressInfo).port}`;
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  await new Promise<void>(resolve => storage.listen(0, '127.0.0.1', resolve));
  const hub: HubServer = {
    url: addressOf(server),
    commit,
    requests: [],
    tokens: new Set(),
    trouble: undefined,
    listing: undefined,
    location: undefined,
    close: async () => {
      for (const each of [server, storage]) {
        each.closeAllConnections();
        await new Promise(resolve => each.close(resolve));
      }
    },
  };
  return hub;
}
