import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** The same weights for ours and for llama.cpp; a reason where one is missing. */
export interface LanguageModel {
  readonly folder?: string;
  readonly gguf?: string;
  readonly missing?: string;
}

/** Makes the folder and the GGUF file of SmolLM2-135M from a package of PyPI; where shared/ lies beside the checkout. */
const BUILDER = '../shared/models/smollm2.py';

/**
 * SmolLM2-135M for prefill and decode: as asked for, else RM_SMOLLM2, else built once into the checkout's .cache where
 * the script for it is at hand. The GGUF file may lie in the folder, or in gguf/ below it.
 */
export function languageModel(
  root: string,
  python: string,
  asked: { model?: string | undefined; gguf?: string | undefined },
  say: (line: string) => void,
): LanguageModel {
  const built = join(root, '.cache/peers/smollm2');
  const builder = join(root, BUILDER);
  let folder = asked.model ?? process.env.RM_SMOLLM2;
  let missing = 'no --model given, RM_SMOLLM2 not set';
  if (folder === undefined && existsSync(builder)) {
    say('SmolLM2-135M ...');
    const { status, stderr, error } = spawnSync(python, [builder, built, '--keep-gguf'], {
      encoding: 'utf8',
    });
    if (status === 0) folder = built;
    else missing = `${missing}, and it was not built: ${error?.message ?? stderr.trim().split('\n').at(-1)}`;
  }
  const gguf = asked.gguf ?? (folder && ggufIn(folder));
  return { ...(folder === undefined ? { missing } : { folder }), ...(gguf !== undefined && { gguf }) };
}

function ggufIn(folder: string): string | undefined {
  for (const place of [folder, join(folder, 'gguf')]) {
    const name = existsSync(place) ? readdirSync(place).find(file => file.endsWith('.gguf')) : undefined;
    if (name !== undefined) return join(place, name);
  }
  return undefined;
}
