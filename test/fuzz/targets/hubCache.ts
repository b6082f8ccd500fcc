import { mkdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isRecord, parseJsonText } from '../../../engine/index.js';
import { findSnapshot } from '../../../model/hub/findSnapshot.js';
import { parseHubReference } from '../../../model/hub/reference.js';
import { bytesOf } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import type { Target } from '../target.js';

const commit = '0123456789abcdef0123456789abcdef01234567';
const index = JSON.stringify({ weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } });

/** A name that stays within its folder. */
const isName = (name: string): boolean => name !== '' && name.length < 200 && !/[/\\\0]|^\.{1,2}$/.test(name);

/** Makes what an input describes: a text is a file, "-> x" a link, an object a folder. */
function make(path: string, content: unknown, depth = 0): void {
  if (isRecord(content) && depth < 10) {
    mkdirSync(path, { recursive: true });
    for (const [name, inner] of Object.entries(content))
      if (isName(name)) make(join(path, name), inner, depth + 1);
    return;
  }
  mkdirSync(dirname(path), { recursive: true });
  if (typeof content === 'string' && content.startsWith('-> ')) {
    const to = content.slice(3);
    if (to !== '' && !to.includes('\0')) symlinkSync(to, path);
  } else {
    writeFileSync(path, typeof content === 'string' ? content : (JSON.stringify(content) ?? ''));
  }
}

/** A model in the Hugging Face cache; an input describes the folder of the cache and the name that is looked for. */
export const target: Target = {
  corpus: async () => [
    bytesOf({
      name: 'org/model',
      cache: {
        refs: { main: commit },
        snapshots: { [commit]: { 'config.json': '{}', 'model.safetensors': '-> ../../blobs/b' } },
        blobs: { b: 'weights', 'c.incomplete': '' },
      },
    }),
    bytesOf({
      name: 'org/model@0123',
      cache: {
        refs: { main: commit, refs: { pr: { 1: commit } } },
        snapshots: {
          [commit]: {
            'config.json': '{}',
            'model.safetensors.index.json': index,
            'model-1.safetensors': '',
            'model-2.safetensors': '',
          },
        },
      },
    }),
  ],
  mutate: jsonMutator([
    'refs',
    'main',
    'snapshots',
    commit,
    '-> model.safetensors',
    '-> ..',
    'org/model@refs/pr/1',
    'model.gguf',
    'config.json',
  ]),
  open: async folder => async input => {
    let described: unknown;
    try {
      described = parseJsonText(new TextDecoder().decode(input));
    } catch {
      return;
    }
    const { name, cache } = isRecord(described) ? described : {};
    const path = join(folder, 'hub');
    rmSync(path, { recursive: true, force: true });
    make(join(path, 'models--org--model'), cache);
    const reference = parseHubReference(typeof name === 'string' ? name : 'org/model');
    if (reference) await findSnapshot(reference, { HF_HUB_CACHE: path });
  },
};
