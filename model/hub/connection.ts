import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ensure, RmError, withoutCredentials } from '../../engine/index.js';
import { huggingFaceHome } from './cacheFolder.js';
import { guardedFetch } from './guardedFetch.js';
import { checkedToken } from './secrets.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** A hub to download from. */
export interface HubConnection {
  /** Without a trailing slash. */
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
  /** A text without the token, and without what else must not be printed. */
  readonly hide: (text: string) => string;
}

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

/** HF_TOKEN, else the token stored by `hf auth login`. */
async function accessToken(env: Environment): Promise<string | undefined> {
  const path = env.HF_TOKEN_PATH || join(huggingFaceHome(env), 'token');
  const place = ['HF_TOKEN', 'HUGGING_FACE_HUB_TOKEN'].find(name => env[name] !== undefined);
  const text = place === undefined ? await readFile(path, 'utf8').catch(() => '') : env[place]!;
  return text.trim() === '' ? undefined : checkedToken(text.trim(), place ?? path);
}

/** HF_ENDPOINT without a trailing slash. Messages name it, so it must hold no secret, and a wrong one is not repeated. */
function hubAddress(env: Environment): string {
  const text = env.HF_ENDPOINT || 'https://huggingface.co';
  const fix = 'Give it as https://host, or unset it.';
  ensure(/^https?:/.test(text) && URL.canParse(text), 'HF_ENDPOINT is not the URL of a hub', fix);
  const { origin, pathname, username, password, search, hash } = new URL(text);
  ensure(
    `${username}${password}${search}${hash}` === '',
    'HF_ENDPOINT has a user, a password, a query or a fragment, which the address of a hub must not have',
    `${fix} A token belongs into HF_TOKEN.`,
  );
  return `${origin}${pathname}`.replace(/\/+$/, '');
}

/** Shorter words are no tokens of a hub, and may be part of any text. */
const LEAST_SECRET = 8;

/**
 * Connects to the hub at HF_ENDPOINT (default huggingface.co) with the token in HF_TOKEN, which is sent to that host only.
 *
 * @throws RmError INVALID_ARGUMENT if HF_HUB_OFFLINE is set, HF_ENDPOINT is no address of a hub, or the token is none.
 */
export async function hubConnection(
  signal: AbortSignal | undefined,
  env: Environment = process.env,
): Promise<HubConnection> {
  if (isOn(env.HF_HUB_OFFLINE)) {
    throw new RmError(
      'INVALID_ARGUMENT',
      'HF_HUB_OFFLINE is set, so nothing is downloaded',
      'Unset it, or leave out `download`.',
    );
  }
  const [hubUrl, token] = [hubAddress(env), await accessToken(env)];
  const secret = token !== undefined && token.length >= LEAST_SECRET ? token : undefined;
  return {
    hubUrl,
    fetch: guardedFetch(hubUrl, token, signal),
    hide: text => withoutCredentials(secret === undefined ? text : text.replaceAll(secret, '***')),
  };
}
