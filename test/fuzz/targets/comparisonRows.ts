import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { sealed } from '../../../engine/index.js';
import { RowStore } from '../../../replaceme/compare/rows.js';
import { asFile, bytesOf } from '../files.js';
import { jsonMutator } from '../mutators/json.js';
import { sealedJsonMutator } from '../mutators/sealed.js';
import type { Target } from '../target.js';

const key = { model: 'abc', tokens: 12 };

/** A row that `compare` keeps. */
export const target: Target = {
  corpus: async () => [bytesOf(sealed({ key, row: { method: 'refit', layers: 2, nll: 1.5 } }))],
  mutate: sealedJsonMutator(jsonMutator(['key', 'row', 'model', 'tokens'])),
  open: async folder => {
    mkdirSync(join(folder, 'rows'));
    return asFile(join(folder, 'rows', 'refit-2.json'), () =>
      new RowStore(folder, key).read('refit-2', false),
    );
  },
};
