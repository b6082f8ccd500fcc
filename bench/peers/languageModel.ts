import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** SmolLM2-135M as a folder and as GGUF, or the reason why it is missing. */
export interface LanguageModel {
  readonly folder?: string;
  readonly gguf?: string;
  readonly missing?: string;
}

/** A script beside some checkouts that makes both from a PyPI package. */
const BUILDER = '../shared/models/smollm2.py';

/**
 * Finds SmolLM2-135M for prefill and decode: the folder in `options`, else RM_SMOLLM2, else one built once into the
 * checkout's .cache, if the script for it is there. The GGUF file may be in the folder or in its gguf/.
 */
export function languageModel(
  root: string,
  python: string,
  options: { model?: string | undefined; gguf?: string | undefined },
  say: (line: string) => void,
): LanguageModel {
  const built = join(root, '.cache/peers/smollm2');
  const builder = join(root, BUILDER);
  let folder = options.model ?? process.env.RM_SMOLLM2;
  let missing = 'no --model given, RM_SMOLLM2 not set';
  if (folder === undefined && existsSync(builder)) {
    say('SmolLM2-135M ...');
    const { status, stderr, error } = spawnSync(python, [builder, built, '--keep-gguf'], {
      encoding: 'utf8',
    });
    if (status === 0) folder = built;
    else missing = `${missing}, and it was not built: ${error?.message ?? stderr.trim().split('\n').at(-1)}`;
  }
  const gguf = options.gguf ?? (folder && ggufIn(folder));
  return { ...(folder === undefined ? { missing } : { folder }), ...(gguf !== undefined && { gguf }) };
}

function ggufIn(folder: string): string | undefined {
  for (const place of [folder, join(folder, 'gguf')]) {
    const name = existsSync(place) ? readdirSync(place).find(file => file.endsWith('.gguf')) : undefined;
    if (name !== undefined) return join(place, name);
  }
  return undefined;
}
