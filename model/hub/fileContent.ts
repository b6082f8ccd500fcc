import { RmError } from '../../engine/index.js';
import type { HubConnection } from './connection.js';

/** The bytes of a file from a position on. */
export interface Content {
  /** The position asked for, or 0 from a server that knows no ranges. */
  readonly start: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** A server's answer that a later try may not get: too many requests, or a failure of its own. */
export class BusyServer extends Error {
  constructor(
    readonly status: number,
    /** Seconds to wait, if the server says. */
    readonly retryAfter: number,
  ) {
    super(`the hub answers with status ${status}`);
  }
}

/** An answer that says no. */
export class RefusedRequest extends Error {
  constructor(readonly statusCode: number) {
    super(`status ${statusCode}`);
  }
}

const wrong = (name: string, problem: string): RmError =>
  new RmError(
    'DOWNLOAD_FAILED',
    `${name}: ${problem}`,
    'Run again; if it stays so, the hub or a proxy is at fault.',
  );

/**
 * Asks for a file of `size` bytes from `start` on.
 *
 * @param name of the file in messages.
 * @throws RmError DOWNLOAD_FAILED where the answer is of another size or place; RefusedRequest, BusyServer; as fetch.
 */
export async function openContent(
  { fetch }: HubConnection,
  url: string,
  name: string,
  start: number,
  size: number,
): Promise<Content> {
  const response = await fetch(url, {
    headers: {
      // As stored, so that lengths can be compared.
      'accept-encoding': 'identity',
      ...(start > 0 && { range: `bytes=${start}-${size - 1}` }),
    },
  });
  const { status, headers, body } = response;
  if (status !== 200 && status !== 206) {
    await body?.cancel();
    if (status === 429 || status >= 500) {
      throw new BusyServer(status, Number(headers.get('retry-after') ?? 0) || 0);
    }
    throw new RefusedRequest(status);
  }
  const partial = status === 206;
  const from = partial ? start : 0;
  const range = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '');
  const length = headers.get('content-length');
  const encoded = (headers.get('content-encoding') ?? 'identity') !== 'identity';
  const problem =
    partial && (Number(range?.[1]) !== start || (range![2] !== '*' && Number(range![2]) !== size))
      ? 'the hub sends another part of the file than was asked for'
      : length !== null && !encoded && Number(length) !== size - from
        ? `the hub announces ${length} bytes where its list has ${size - from}`
        : undefined;
  if (problem !== undefined || !body) {
    await body?.cancel();
    throw wrong(name, problem ?? 'the hub sends nothing');
  }
  return { start: from, pieces: body as unknown as AsyncIterable<Uint8Array> };
}
