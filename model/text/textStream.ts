/** Decodes token ids that arrive one at a time, never cutting a character in two. Await each call before the next. */
export interface TextStream {
  /** Adds a token and returns the text that is now certain; may be empty. */
  push(id: number): Promise<string>;
  /** Returns the text still held back at the end. */
  end(): Promise<string>;
}

const replacement = '\ufffd';

/** A stream over a function that decodes several lists of ids, each on its own. */
export function createTextStream(
  decode: (lists: readonly (readonly number[])[]) => Promise<string[]>,
): TextStream {
  // Decoders treat the first token differently (some drop its space), so new tokens are decoded after the last ones that
  // gave text.
  let context: number[] = [];
  let pending: number[] = [];
  const release = async (whole: boolean): Promise<string> => {
    const [before, text] = (await decode([context, [...context, ...pending]])) as [string, string];
    if (!whole && (text.endsWith(replacement) || !text.startsWith(before))) return '';
    const added = text.slice(before.length);
    context = added === '' ? [...context, ...pending] : pending;
    pending = [];
    return added;
  };
  return {
    push: id => {
      pending.push(id);
      return release(false);
    },
    end: async () => (pending.length > 0 ? release(true) : ''),
  };
}
