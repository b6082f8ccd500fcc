import type { IncomingMessage } from 'node:http';
import { isRecord, parseJsonText } from '../../engine/index.js';
import { HttpFailure } from './httpFailure.js';

/** Reads the body of a request. @throws HttpFailure for one that is too large, not JSON or no object. */
export async function readJson(
  request: IncomingMessage,
  mostBytes: number,
): Promise<Record<string, unknown>> {
  // A page of another site can send other types without being asked first.
  if (!/^application\/json\s*(;|$)/i.test(request.headers['content-type'] ?? '')) {
    throw new HttpFailure(415, 'the content type must be application/json');
  }
  const tooLarge = () => new HttpFailure(413, `the body has more than ${mostBytes} bytes`);
  if (Number(request.headers['content-length'] ?? 0) > mostBytes) throw tooLarge();
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > mostBytes) throw tooLarge();
    pieces.push(piece);
  }
  let body: unknown;
  try {
    body = parseJsonText(new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(pieces)));
  } catch {
    throw new HttpFailure(400, 'the body is not JSON');
  }
  if (!isRecord(body)) throw new HttpFailure(400, 'the body is not a JSON object');
  return body;
}
