import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Why a text that somebody gave is not taken for a path, and what to give. */
export interface NoPath {
  readonly problem: string;
  readonly fix: string;
}

const address = /^([a-z][a-z\d+.-]*):\/\//i;

/** A leading "~", alone or before a separator. */
const home = /^~(?=$|[\\/])/;

/** Parts of a path that a shell would replace: ${NAME} anywhere, $NAME as a whole part. */
const variable = /\$\{\w+\}|(?<=^|[\\/])\$[A-Za-z_]\w*(?=$|[\\/])/;

/**
 * The path that a text stands for: a leading "~" is the home folder, as in a shell. What a shell would replace besides, and
 * addresses, are no paths, unless a file of that name is there.
 */
export function userPath(text: string): string | NoPath {
  if (home.test(text)) return join(homedir(), text.slice(1));
  if (existsSync(text)) return text;
  if (/^~[\w.-]*([\\/]|$)/.test(text)) {
    return {
      problem: `'${text}' begins with the home folder of a user, which is not looked up`,
      fix: `Write the whole path, ~/ for your own home folder, or ./${text} for a file of that name.`,
    };
  }
  const [, scheme] = address.exec(text) ?? [];
  if (scheme !== undefined) return notAddress(text, scheme.toLowerCase());
  const name = variable.exec(text)?.[0];
  if (name !== undefined) {
    return {
      problem: `'${text}' has the variable ${name}, which is not replaced here`,
      fix: 'Write the whole path, or ~/ for your home folder.',
    };
  }
  return text;
}

function notAddress(text: string, scheme: string): NoPath {
  const problem = `'${text}' is an address, not a path`;
  const model = /^https?:\/\/(?:huggingface\.co|hf\.co)\/([^/?#]+\/[^/?#]+)/i.exec(text)?.[1];
  if (model !== undefined)
    return {
      problem,
      fix: `Give the name of the model: ${model}.`,
    };
  if (scheme === 'hf') return { problem, fix: `Give the name of the model: ${text.slice('hf://'.length)}` };
  if (scheme !== 'file') return { problem, fix: 'Download the file, and give its path.' };
  try {
    return { problem, fix: `Give the path itself: ${fileURLToPath(text)}` };
  } catch {
    return { problem, fix: 'Give the path itself, without file://.' };
  }
}
