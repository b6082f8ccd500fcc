// Random folders in the place of a model folder, some changed during the work, against a rule of the test's own: replaced as a
// whole, or not touched. RM_FOLDERS sets their number (200), RM_SEED the seed. Costs 1 s.
import { appendFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/errors.js';
import { seededRandom } from '../../engine/random.js';
import { withOutputFolder } from '../../model/files/outputFolder.js';
import { modelFolder } from '../../model/writing/modelKinds.js';
import { temporaryFolder } from '../support.js';
import { treeOf } from '../treeOf.js';

const weights = ['model.safetensors', 'model-00001-of-00002.safetensors'];
const parts = [
  ...['config.json', ...weights, 'tokenizer.json', 'README.md', 'README.base.md', 'generation_config.json'],
  ...['LICENSE', 'merges.txt', 'additional_chat_templates/tools.jinja'],
];
const strange = [
  ...[
    'photo.jpg',
    '.git/config',
    'model.safetensors.bak',
    'notes.md',
    'config.json~',
    'sub/config.json',
    'readme.md',
  ],
  ...[
    'Model.safetensors',
    'additional_chat_templates/x.txt',
    'additional_chat_templates/deep/x.jinja',
    'a b',
    '\n',
  ],
  ...[
    'report.json',
    'report.html',
    'optimizer.pt',
    'model-1-of-2.safetensors',
    'LICENSE/inner',
    '.env',
    'toString',
  ],
];
const configs = ['{"model_type":"llama"}', '{"architectures":["X"]}', '{"model_type":"x"}', '{}', '[]', 'x'];
const REPORT = '{"schema": "rm-engine-report/2"}';

const seed = Number(process.env.RM_SEED ?? 1);
const random = seededRandom(seed);
const below = (count: number) => Math.floor(random() * count);
const pick = <T>(all: readonly T[]): T => all[below(all.length)]!;

/** Fills a folder at random. */
function fill(out: string): void {
  const put = (name: string, content: string) => {
    try {
      mkdirSync(dirname(join(out, name)), { recursive: true });
      writeFileSync(join(out, name), content);
    } catch {
      // A file is where the folder would be, or the other way round.
    }
  };
  if (below(10) > 0) put('config.json', pick(configs));
  if (below(10) > 0) put(pick(weights), 'weights');
  for (let left = below(4); left > 0; left--) put(pick(parts.slice(1)), 'a part');
  if (below(2) > 0) put(pick(strange), pick(['mine', REPORT]));
  if (below(8) === 0) mkdirSync(join(out, pick(['empty', 'additional_chat_templates'])), { recursive: true });
  if (below(8) === 0) put('notes.md', 'mine');
  if (process.platform !== 'win32' && below(8) === 0) {
    const link = join(out, pick(['link', 'tokenizer.json']));
    rmSync(link, { force: true });
    symlinkSync(import.meta.url.slice('file://'.length), link);
  }
}

/** Whether it is empty or a model folder and nothing else. */
function isModel(out: string, tree: Record<string, string>): boolean {
  const names = Object.keys(tree);
  const ours = (name: string) => name === 'report.json' && readFileSync(join(out, name), 'utf8') === REPORT;
  return (
    names.length === 0 ||
    (weights.some(name => name in tree) &&
      configs
        .slice(0, 3)
        .includes('config.json' in tree ? readFileSync(join(out, 'config.json'), 'utf8') : '') &&
      names.every(name =>
        tree[name] === 'folder'
          ? names.some(other => other.startsWith(`${name}/`))
          : !tree[name]!.startsWith('link') && (parts.includes(name) || ours(name)),
      ))
  );
}

/** Changes something in the folder as a user might. */
function change(out: string, files: readonly string[]): void {
  const file = files.length > 0 ? join(out, pick(files)) : join(out, 'late');
  pick([
    () => writeFileSync(join(out, pick(['late', 'NOTICE'])), 'late'),
    () => mkdirSync(join(out, 'late')),
    () => appendFileSync(file, 'more'),
    () => {
      rmSync(file, { force: true });
      writeFileSync(file, 'another');
    },
  ])();
}

test('random folders are replaced as a whole, or not touched', async () => {
  using base = temporaryFolder();
  const out = join(base.path, 'out');
  const counts = { replaced: 0, refused: 0, overtaken: 0 };
  for (let round = 0; round < Number(process.env.RM_FOLDERS ?? 200); round++) {
    rmSync(out, { recursive: true, force: true });
    mkdirSync(out);
    fill(out);
    const before = treeOf(out);
    const files = Object.keys(before).filter(name => before[name]!.length === 64);
    const [replaceable, overtakes] = [isModel(out, before), below(6) === 0];
    let during = before;
    const error = await withOutputFolder(out, modelFolder(), { force: true }, async folder => {
      writeFileSync(join(folder, 'new'), 'new');
      if (overtakes) change(out, files);
      during = treeOf(out);
    }).catch(caught => caught);
    const where = `seed ${seed}, folder ${round}: ${JSON.stringify(before)}`;
    if (error === undefined) {
      assert.ok(replaceable && !overtakes, where);
      assert.equal(Object.keys(treeOf(base.path)), ['out', 'out/new'], where);
      counts.replaced++;
    } else {
      assert.ok(error instanceof RmError && error.code === 'OUTPUT_EXISTS', `${error}: ${where}`);
      assert.is(replaceable, replaceable && overtakes, where);
      assert.equal(treeOf(out), during, where);
      assert.ok(
        Object.keys(treeOf(base.path)).every(name => name.startsWith('out')),
        where,
      );
      counts[replaceable ? 'overtaken' : 'refused']++;
    }
  }
  console.log(counts);
});

test.run();
