import { RmError } from '../../engine/index.js';

/** Answers that are no files are small: more bytes, or more of them, are no hub's. */
const MOST_ANSWER_BYTES = 64 * 2 ** 20;
const MOST_ANSWERS = 1000;
const MOST_REDIRECTS = 5;

const odd = (hubUrl: string, problem: string): RmError =>
  new RmError(
    'DOWNLOAD_FAILED',
    `${hubUrl} ${problem}`,
    'Check HF_ENDPOINT: it should be the address of the hub that you mean, over https.',
  );

/** Passes on at most `most` bytes of a body. */
function limited(hubUrl: string, { body, status, headers }: Response, most: number): Response {
  let bytes = 0;
  const counted = body?.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(piece, controller) {
        bytes += piece.byteLength;
        if (bytes > most) controller.error(odd(hubUrl, 'sends an answer without end'));
        else controller.enqueue(piece);
      },
    }),
  );
  return new Response([204, 205, 304].includes(status) ? null : (counted ?? null), { status, headers });
}

/**
 * fetch for one hub. Only the hub itself is asked, and it may lead to https or, without https, to its own host; the token
 * goes to the hub alone. All answers but files have a limit, in size and in number.
 *
 * @throws RmError DOWNLOAD_FAILED for what no hub does; as fetch.
 */
export function guardedFetch(
  hubUrl: string,
  token: string | undefined,
  signal: AbortSignal | undefined,
): typeof fetch {
  const hub = new URL(hubUrl);
  let answers = 0;
  const mayLeadTo = ({ protocol, hostname }: URL) =>
    protocol === 'https:' || (hub.protocol === 'http:' && protocol === 'http:' && hostname === hub.hostname);
  return async (input, init) => {
    let url = new URL(input instanceof Request ? input.url : String(input));
    const isFile = url.pathname.includes('/resolve/');
    if (url.origin !== hub.origin) throw odd(hubUrl, `names ${url.host} as a part of itself`);
    if (!isFile && ++answers > MOST_ANSWERS) throw odd(hubUrl, 'gives a list without end');
    for (let redirects = 0; ; redirects++) {
      const headers = new Headers(init?.headers);
      if (token !== undefined && url.origin === hub.origin) headers.set('authorization', `Bearer ${token}`);
      else headers.delete('authorization');
      const response = await fetch(url, { ...init, headers, redirect: 'manual', ...(signal && { signal }) });
      const location = response.headers.get('location');
      if (location === null || response.status < 300 || response.status > 399) {
        return isFile && response.ok ? response : limited(hubUrl, response, MOST_ANSWER_BYTES);
      }
      await response.body?.cancel();
      if (redirects >= MOST_REDIRECTS) throw odd(hubUrl, 'leads from one address to another without end');
      if (!URL.canParse(location, url.href)) throw odd(hubUrl, 'leads to an address that is none');
      url = new URL(location, url);
      if (!mayLeadTo(url))
        throw odd(hubUrl, `leads to ${url.protocol}//${url.host}, which is neither https nor its own host`);
    }
  };
}
