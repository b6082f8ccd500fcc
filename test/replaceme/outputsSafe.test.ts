// Nothing of the user's is deleted: what every function that writes does where something is in the way, without a device.
// Costs 2 s.
import {
  copyFileSync,
  cpSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkConversion } from '../../model/writing/convert.js';
import { checkAccumulated } from '../../replaceme/accumulate.js';
import { checkCompareRequest } from '../../replaceme/compare/request.js';
import { checkHealRequest } from '../../replaceme/healing/healRequest.js';
import { checkPruneRequest } from '../../replaceme/request/request.js';
import { checkRunFolder } from '../../replaceme/resume/runFolder.js';
import { mergeStatistics } from '../../replaceme/statistics/mergeStatistics.js';
import { rejectsWith } from '../gpu.js';
import { treeOf } from '../treeOf.js';
import { workplace } from './workplace.js';

/** A folder with a model, a copy of it to replace, text, and things of the user's. */
async function home() {
  const place = await workplace();
  const at = (...parts: string[]) => join(place.path, ...parts);
  cpSync(place.model, at('old'), { recursive: true });
  mkdirSync(at('photos', '2024'), { recursive: true });
  writeFileSync(at('photos', 'a.jpg'), 'a photo');
  writeFileSync(at('photos', '2024', 'b.jpg'), 'another');
  return { ...place, at };
}
type Home = Awaited<ReturnType<typeof home>>;

const remove = { layers: 2, method: 'plain', report: 'none' } as const;

/** Each function that writes a model folder, up to where a device would be opened. */
const folderWriters: Record<string, (place: Home, out: string) => Promise<unknown>> = {
  prune: ({ model }, out) => checkPruneRequest(model, out, { ...remove, force: true }),
  'prune again': ({ model }, out) => checkPruneRequest(model, out, { ...remove, force: true, restart: true }),
  heal: ({ model, calibration }, out) =>
    checkHealRequest(model, out, { ...healing(calibration), force: true }),
  convert: ({ model }, out) => checkConversion(model, out, true),
};
const healing = (text: string) => ({ data: [text], objective: 'lm', train: 'full' }) as const;

/** Each function that writes a file. */
const fileWriters: Record<string, (place: Home, out: string) => Promise<unknown>> = {
  'prune to GGUF': ({ model }, out) =>
    checkPruneRequest(model, `${out}.gguf`, { ...remove, force: true, checkpoint: false }),
  'convert to GGUF': ({ model }, out) => checkConversion(model, `${out}.gguf`, true),
  'stats gather': ({ model, calibration }, out) =>
    checkAccumulated(model, out, { shard: { index: 1, of: 2 }, calibration: [calibration], force: true }),
  'heal --checkpoint': ({ model, calibration, at }, out) =>
    checkHealRequest(model, at('healed'), { ...healing(calibration), checkpoint: out, force: true }),
  'prune --statistics': ({ model, out: to }, out) =>
    checkPruneRequest(model, to, { ...remove, statistics: out, force: true }),
};

let refusals = 0;
test.after(() => console.log(`${refusals} outputs refused, and nothing changed`));

/** Runs the writer; all that is in the place stays as it was. */
async function refused(place: Home, write: () => Promise<unknown>, code = 'OUTPUT_EXISTS' as const) {
  const before = treeOf(place.path);
  const message = await rejectsWith(write, code);
  assert.equal(treeOf(place.path), before);
  refusals++;
  return message;
}

test('force replaces a model folder, and no other folder', async () => {
  using place = await home();
  const { at } = place;
  const folders: Record<string, () => void> = {
    photos: () => {},
    'a model and a note': () => writeFileSync(at('x', 'thesis.docx'), 'years of work'),
    'a model and a folder': () => cpSync(at('photos'), at('x', 'photos'), { recursive: true }),
    'a model and an empty folder': () => mkdirSync(at('x', 'later')),
    'a model under version control': () => cpSync(at('photos'), at('x', '.git'), { recursive: true }),
    'a model and a link': () => symlinkSync(at('photos'), at('x', 'link')),
    'a model and other weights': () => writeFileSync(at('x', 'lora.safetensors'), 'weights'),
    "a model and a report of somebody else's": () => writeFileSync(at('x', 'report.html'), '<h1>2024</h1>'),
    'a model and a name that objects have': () => writeFileSync(at('x', 'constructor'), 'mine'),
    'a model without weights': () => rmSync(at('x', 'model.safetensors')),
    'a config of another program': () => writeFileSync(at('x', 'config.json'), '{"theme":"dark"}'),
    'a config that is no JSON': () => writeFileSync(at('x', 'config.json'), 'dark'),
  };
  for (const [name, change] of Object.entries(folders)) {
    if (name === 'photos') cpSync(at('photos'), at('x'), { recursive: true });
    else cpSync(at('old'), at('x'), { recursive: true });
    change();
    for (const [writer, write] of Object.entries(folderWriters)) {
      const message = await refused(place, () => write(place, at('x')));
      assert.match(message, /may not be replaced/, `${writer}: ${name}`);
    }
    rmSync(at('x'), { recursive: true });
  }
  const before = treeOf(place.path);
  for (const write of Object.values(folderWriters)) await write(place, at('old'));
  assert.equal(treeOf(place.path), before, 'a check changes nothing');
});

test('a folder may hold what equals a file of the model that it is made from', async () => {
  using place = await home();
  const { at, model } = place;
  mkdirSync(join(model, 'original'));
  for (const path of ['original/params.json', 'diagram.png']) writeFileSync(join(model, path), path);
  cpSync(model, at('x'), { recursive: true });
  await checkConversion(model, at('x'), true);
  writeFileSync(at('x', 'diagram.png'), 'redrawn');
  assert.match(await refused(place, () => checkConversion(model, at('x'), true)), /it holds diagram\.png/);
});

test('force replaces a file of the same kind, and no other file', async () => {
  using place = await home();
  const { at } = place;
  const contents: Record<string, string> = {
    'a note': 'years of work',
    nothing: '',
    'weights of a model': readFileSync(join(place.model, 'model.safetensors'), 'latin1'),
    'almost GGUF': 'GGUF is a format, and this is a note on it',
  };
  for (const [name, content] of Object.entries(contents)) {
    for (const file of ['x', 'x.gguf']) writeFileSync(at(file), content, 'latin1');
    for (const [writer, write] of Object.entries(fileWriters)) {
      if (writer === 'prune --statistics') continue;
      assert.match(
        await refused(place, () => write(place, at('x'))),
        /may not be replaced/,
        `${writer}: ${name}`,
      );
    }
  }
  const { model } = place;
  writeFileSync(at('y.report.html'), '<h1>2024</h1>');
  const gguf = () => checkPruneRequest(model, at('y.gguf'), { ...remove, force: true });
  assert.match(await refused(place, gguf), /y\.report\.html.*not a report of rm-engine/);
});

test('inputs are no outputs, whatever they are called', async () => {
  using place = await home();
  const { at, model, calibration } = place;
  symlinkSync(model, at('link'));
  symlinkSync(calibration, at('link.txt'));
  linkSync(calibration, at('same.txt'));
  mkdirSync(at('elsewhere'));
  const folders = [
    model,
    `${model}/`,
    `${model}/.`,
    at('photos', '..', 'model'),
    at('link'),
    at('link', 'x'),
    at('link', 'deep', 'x'),
  ];
  if (statSync(model).ino === statSync(at('MODEL'), { throwIfNoEntry: false })?.ino)
    folders.push(at('MODEL'));
  for (const out of folders) {
    for (const [writer, write] of Object.entries({ ...folderWriters, ...fileWriters })) {
      if (writer.endsWith('GGUF') && !out.endsWith('x')) continue;
      await refused(place, () => write(place, out));
    }
  }
  for (const file of [
    calibration,
    at('link.txt'),
    at('same.txt'),
    at('photos', '..', basename(calibration)),
  ]) {
    for (const writer of ['stats gather', 'heal --checkpoint'] as const) {
      assert.match(
        await refused(place, () => fileWriters[writer]!(place, file)),
        /because it is or contains/,
      );
    }
  }
  // A model whose weights are links: the folder they are in is an input too.
  copyFileSync(join(model, 'config.json'), at('elsewhere', 'config.json'));
  cpSync(join(model, 'model.safetensors'), at('elsewhere', 'model.safetensors'));
  rmSync(join(model, 'model.safetensors'));
  symlinkSync(at('elsewhere', 'model.safetensors'), join(model, 'model.safetensors'));
  for (const write of Object.values(folderWriters)) {
    assert.match(await refused(place, () => write(place, at('elsewhere'))), /contains what is linked from/);
  }
});

test('teacher, held-out text, evaluation, the cache, and one output within another', async () => {
  using place = await home();
  const { at, model, out, calibration } = place;
  const heal = (to: string, more: object) =>
    checkHealRequest(model, to, { ...healing(calibration), force: true, ...more });
  await refused(place, () => heal(at('old'), { teacher: at('old') }));
  await refused(place, () => heal(at('old'), { heldOut: [at('old', 'config.json')] }));
  await refused(place, () => heal(out, { checkpoint: out }));
  await refused(place, () => heal(out, { checkpoint: join(out, 'checkpoint') }));
  const prune = (to: string, more: object) =>
    checkPruneRequest(model, to, { ...remove, force: true, ...more });
  await refused(place, () => prune(at('old'), { evaluation: [at('old', 'config.json')], report: 'full' }));
  await refused(place, () => prune(at('old'), { calibration: [at('old', 'config.json')] }));
  await refused(place, () => prune(out, { statistics: join(out, 's.safetensors') }));
  await rejectsWith(() => mergeStatistics(calibration, [calibration], { force: true }), 'DATA_INVALID');
  const before = process.env.HF_HUB_CACHE;
  process.env.HF_HUB_CACHE = at('photos');
  try {
    for (const path of [at('photos', 'new'), at('photos', '2024')]) {
      assert.match(await refused(place, () => checkConversion(model, path, true)), /lies in .*photos/);
    }
  } finally {
    if (before === undefined) delete process.env.HF_HUB_CACHE;
    else process.env.HF_HUB_CACHE = before;
  }
});

test('a run keeps its state in no folder of the user, and no restart wipes one', async () => {
  using place = await home();
  const { at, model, out } = place;
  const state = `${out}.checkpoint`;
  const folders: Record<string, () => void> = {
    photos: () => writeFileSync(join(state, 'a.jpg'), 'a photo'),
    'another state': () => writeFileSync(join(state, 'state.json'), '{"format":"another program 1"}\n{}\n'),
    'no state': () => writeFileSync(join(state, 'a'.repeat(64)), 'bytes'),
    'a lock of another program': () => writeFileSync(join(state, 'lock'), '4711\n'),
    folders: () => mkdirSync(join(state, 'b'.repeat(64))),
  };
  for (const [name, fill] of Object.entries(folders)) {
    mkdirSync(state);
    fill();
    for (const how of [{}, { resume: true }, { restart: true }]) {
      const message = await refused(place, () => checkPruneRequest(model, out, { ...remove, ...how }));
      assert.match(message, /pruned\.checkpoint: this is not of rm-engine/, name);
      assert.not.match(message, /restart/);
    }
    await checkPruneRequest(model, out, { ...remove, checkpoint: false });
    rmSync(state, { recursive: true });
  }
  writeFileSync(state, 'a file');
  await refused(place, () => checkPruneRequest(model, out, { ...remove }));
  rmSync(state);
  symlinkSync(at('nowhere'), state);
  await refused(place, () => checkPruneRequest(model, out, { ...remove }));
  rmSync(state);
  mkdirSync(state);
  await checkRunFolder(state);
});

test('compare writes into new and own folders only', async () => {
  using place = await home();
  const { at, model, calibration } = place;
  const compare = (out: string) =>
    checkCompareRequest(model, {
      ...{
        out,
        layers: [2],
        methods: ['plain'],
        evaluation: [calibration],
        calibration: [calibration],
        force: true,
      },
    });
  for (const out of [at('photos'), model, join(model, 'x'), calibration, place.path]) {
    await refused(place, () => compare(out));
  }
  mkdirSync(at('cmp'));
  await compare(at('cmp'));
  writeFileSync(at('cmp', 'report.json'), '{"mine": true}');
  assert.match(await refused(place, () => compare(at('cmp'))), /report\.json: .*not a report of rm-engine/);
  writeFileSync(at('cmp', 'report.json'), '{\n  "schema": "rm-engine-report/2"}');
  writeFileSync(at('cmp', 'notes.md'), 'other files are left alone');
  await compare(at('cmp'));
  writeFileSync(at('cmp', 'compare.md'), '# My thesis');
  assert.match(
    await refused(place, () => compare(at('cmp'))),
    /compare\.md: .*not a table of rm-engine compare/,
  );
});

test.run();
