import { cpSync, readFileSync, rmSync } from 'node:fs';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256 } from '../../../engine/index.js';
import { RunJournal } from '../../../replaceme/resume/runJournal.js';
import { noDevice } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { textMutator } from '../mutators/text.js';
import type { Mutator, Target } from '../target.js';

const recipe = { model: 'abc', tokens: 12 };

/** What a run keeps: values of every kind but tensors, small and large arrays. */
async function run(journal: RunJournal): Promise<void> {
  journal.agree(recipe);
  await journal.step('windows', async () => [
    { layer: 1, count: 2, kl: Number.NaN, none: undefined, zero: -0 },
  ]);
  await journal.step('arrays', async () => ({
    small: Float64Array.of(1, 2),
    large: new Float32Array(5000),
    map: new Map<string, unknown>([['a', Uint8Array.of(1)]]),
  }));
  const history: number[] = [];
  using _ = await journal.track('history', {
    save: () => ({ history }),
    restore: (saved: { history: number[] }) => void history.push(...saved.history),
  });
  await journal.forEach('batches', 3, async index => void history.push(index));
}

async function makeFolder(folder: string): Promise<string> {
  const path = join(folder, 'made.checkpoint');
  const journal = RunJournal.begin(noDevice, path, { every: 0 });
  await run(journal);
  await journal.save();
  await journal.leave();
  return path;
}

const words = [
  ...[
    '$undefined',
    '$number',
    '$map',
    '$array',
    '$tensor',
    '$spilled',
    'place',
    'file',
    'here',
    'bytes',
    'byteLength',
    'type',
  ],
  ...['Float32Array', 'Float64Array', 'shape', 'dtype', 'f32', 'done', 'cursors', 'live', 'recipe', 'format'],
];
const mutateBody = jsonMutator(words);
const mutateText = textMutator(words);

/** Changes the body, mostly with the hash that belongs to it. */
const mutateState: Mutator = (input, random) => {
  const [head = '', body] = new TextDecoder().decode(input).split('\n');
  if (body === undefined || random.chance(0.1)) return mutateText(input, random);
  const changed = new TextDecoder().decode(mutateBody(new TextEncoder().encode(body), random));
  const sealed = head.replace(/"sha256":"[0-9a-f]*"/, `"sha256":"${sha256(changed)}"`);
  return new TextEncoder().encode(`${random.chance(0.95) ? sealed : head}\n${changed}\n`);
};

/** The state of an interrupted prune: a run goes on from it. */
export const target: Target = {
  corpus: async folder => [new Uint8Array(readFileSync(join(await makeFolder(folder), 'state.json')))],
  mutate: mutateState,
  open: async folder => {
    const [made, path] = [await makeFolder(folder), join(folder, 'out.checkpoint')];
    cpSync(made, path, { recursive: true });
    return async input => {
      rmSync(path, { recursive: true, force: true });
      await cp(made, path, { recursive: true });
      await writeFile(join(path, 'state.json'), input);
      const journal = await RunJournal.resume(noDevice, path, { every: 1e9 });
      try {
        await run(journal);
      } finally {
        await journal.leave();
      }
    };
  },
};
