import { RmError } from '../../engine/index.js';

/** More than any token has. */
const MOST_TOKEN_CHARACTERS = 4096;

/**
 * A token as a header can carry it: what cannot be sent is refused here, since the HTTP library would print it.
 *
 * @param place says where it was found.
 * @throws RmError INVALID_ARGUMENT, without the token.
 */
export function checkedToken(token: string, place: string): string {
  if (/^[\x21-\x7e]+$/.test(token) && token.length <= MOST_TOKEN_CHARACTERS) return token;
  throw new RmError(
    'INVALID_ARGUMENT',
    `${place}: is no token: it is too long, or has a line end, a space or another character within that no token has`,
    'Leave only the token there (hf_...), or nothing.',
  );
}

/** Takes out of an error and its causes what must not be printed. @param hide the same for a text. */
export function hideSecrets(error: unknown, hide: (text: string) => string): void {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    at.message = hide(at.message);
    if (at.stack !== undefined) at.stack = hide(at.stack);
    // @huggingface/hub keeps the answer, its address and a number of its own.
    for (const [name, value] of Object.entries(at)) {
      if (typeof value === 'string') Reflect.set(at, name, hide(value));
      else if (name !== 'cause' && typeof value === 'object') Reflect.deleteProperty(at, name);
    }
  }
}
