import { RmError } from './errors.js';
import { withoutCredentials } from './withoutCredentials.js';

/** What the system's error codes mean for a file or a host, as the end of a sentence. */
const systemReasons: Readonly<Record<string, string>> = {
  ENOENT: 'no such file',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EISDIR: 'it is a folder',
  ENOTDIR: 'part of the path is a file',
  ELOOP: 'it is a symbolic link to itself, or a link where none is followed',
  EMFILE: 'too many files are open',
  ENFILE: 'too many files are open',
  EIO: 'the disk reports an error',
  ENOSPC: 'the disk is full',
  EDQUOT: 'the disk quota is used up',
  EROFS: 'the file system is read-only',
  EFBIG: 'the file is larger than the system allows',
  EPIPE: 'the reader has gone',
  EBUSY: 'another program uses it',
  ENXIO: 'it is not a file',
  ENAMETOOLONG: 'the name is too long',
  ERR_FS_FILE_TOO_LARGE: 'it is too large to be read at once',
  ERR_STRING_TOO_LONG: 'it is too large to be read at once',
  ENOTFOUND: 'the host name is unknown',
  EAI_AGAIN: 'the host name cannot be looked up',
  ECONNREFUSED: 'the host refuses the connection',
  ECONNRESET: 'the connection broke off',
  UND_ERR_SOCKET: 'the connection broke off',
  ETIMEDOUT: 'the host does not answer',
  UND_ERR_CONNECT_TIMEOUT: 'the host does not answer',
  UND_ERR_HEADERS_TIMEOUT: 'the host does not answer',
  UND_ERR_BODY_TIMEOUT: 'the host stopped sending',
  ENETUNREACH: 'there is no way to the network',
};

const MOST_CHARACTERS = 200;

/**
 * Why something failed, as the end of a sentence of ours: system errors in our words; what a library says, in quotes, cut
 * to its first line.
 */
export function reasonOf(error: unknown): string {
  if (error instanceof RmError) return error.message;
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  if (typeof code === 'string' && Object.hasOwn(systemReasons, code)) return systemReasons[code]!;
  const words = typeof message === 'string' ? message : String(error);
  const line = withoutCredentials(words)
    .trim()
    .split('\n', 1)[0]!
    .replace(/\s+/g, ' ')
    .replaceAll('"', "'")
    .trim();
  const cut = line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS)}...` : line;
  return cut ? `"${cut}"` : 'no reason is given';
}
