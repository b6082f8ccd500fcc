import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RmError } from '../../engine/index.js';
import { huggingFaceHome } from './cacheFolder.js';
import { guardedFetch } from './guardedFetch.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** A hub to download from. */
export interface HubConnection {
  /** Without a trailing slash. */
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
}

const isOn = (value: string | undefined): boolean => /^(1|on|yes|true)$/i.test(value ?? '');

/** HF_TOKEN, else the token stored by `hf auth login`. */
async function accessToken(env: Environment): Promise<string | undefined> {
  const token = env.HF_TOKEN ?? env.HUGGING_FACE_HUB_TOKEN;
  if (token !== undefined) return token.trim() || undefined;
  const path = env.HF_TOKEN_PATH || join(huggingFaceHome(env), 'token');
  return (await readFile(path, 'utf8').catch(() => '')).trim() || undefined;
}

/**
 * Connects to the hub at HF_ENDPOINT (default huggingface.co) with the token in HF_TOKEN, which is sent to that host only.
 *
 * @throws RmError INVALID_ARGUMENT if HF_HUB_OFFLINE is set or HF_ENDPOINT is not a URL.
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
  const hubUrl = (env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
  if (!/^https?:/.test(hubUrl) || !URL.canParse(hubUrl)) {
    throw new RmError(
      'INVALID_ARGUMENT',
      `HF_ENDPOINT is ${JSON.stringify(hubUrl)}, which is not the URL of a hub`,
      'Give it as https://host, or unset it.',
    );
  }
  return { hubUrl, fetch: guardedFetch(hubUrl, await accessToken(env), signal) };
}
