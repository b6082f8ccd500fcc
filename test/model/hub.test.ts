import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hubCacheFolder } from '../../model/hub/cacheFolder.js';
import { findSnapshot } from '../../model/hub/findSnapshot.js';
import { hiddenReference, locateModel, modelName } from '../../model/hub/locate.js';
import { filesToDownload } from '../../model/hub/neededFiles.js';
import { downloadCommand, parseHubReference } from '../../model/hub/reference.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const sha = (digit: string) => digit.repeat(40);

/** A cache of one model with one commit, as huggingface_hub writes it: links into blobs/. */
function makeCache(
  cache: string,
  options: {
    repo?: string;
    commit?: string;
    ref?: string | null;
    files?: Record<string, string>;
    copies?: boolean;
  } = {},
): { env: Record<string, string>; repo: string; snapshot: string } {
  const { repo = 'org/model', commit = sha('a'), ref = 'main', copies = false } = options;
  const files = options.files ?? { 'config.json': '{}', 'tokenizer.json': '{}', 'model.safetensors': 'x' };
  const folder = join(cache, `models--${repo.replace('/', '--')}`);
  const snapshot = join(folder, 'snapshots', commit);
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(folder, 'blobs'), { recursive: true });
  for (const [i, [name, content]] of Object.entries(files).entries()) {
    const place = join(snapshot, name);
    mkdirSync(dirname(place), { recursive: true });
    if (copies) writeFileSync(place, content);
    else {
      const blob = `${commit.slice(0, 8)}${i}`;
      writeFileSync(join(folder, 'blobs', blob), content);
      symlinkSync(join(...name.split('/').map(() => '..'), '..', 'blobs', blob), place);
    }
  }
  if (ref !== null) {
    const path = join(folder, 'refs', ref);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, commit);
  }
  return { env: { HF_HUB_CACHE: cache }, repo: folder, snapshot };
}

const named = (text: string) => parseHubReference(text)!;

test('what is a name of a model, and what can only be a path', () => {
  assert.equal(named('org/name'), { repo: 'org/name', revision: 'main', pinned: false });
  assert.equal(named('org/na.me-1_b@v1.0'), { repo: 'org/na.me-1_b', revision: 'v1.0', pinned: true });
  assert.equal(named('gpt2@refs/pr/3').revision, 'refs/pr/3');
  const paths = [
    ...[
      './org/name',
      '/org/name',
      '../name',
      'a/b/c',
      'org/',
      '/',
      '',
      '.',
      '..',
      'C:\\org\\name',
      'org\\name',
    ],
    ...[
      'org/name@',
      'org/name@../../x',
      'org/name@a//b',
      'org/name@-\n',
      'org/a--b',
      'org/a..b',
      'org/.x',
      'org/x.',
    ],
    ...['models/tiny.gguf', 'models/model.safetensors', 'org/name.git', 'org/na me', `org/${'x'.repeat(97)}`],
  ];
  for (const path of paths) assert.is(parseHubReference(path), undefined, path);
  assert.is(downloadCommand(named('org/name')), 'hf download org/name');
  assert.is(downloadCommand(named('org/name@v2')), 'hf download org/name --revision v2');
});

test('where the cache is: the variables of huggingface_hub in its order', () => {
  const all = { HF_HUB_CACHE: '/1', HUGGINGFACE_HUB_CACHE: '/2', HF_HOME: '/3', XDG_CACHE_HOME: '/4' };
  const { HF_HUB_CACHE: _1, ...second } = all;
  const { HUGGINGFACE_HUB_CACHE: _2, ...third } = second;
  const { HF_HOME: _3, ...fourth } = third;
  assert.equal(
    [all, second, third, fourth, {}, { HF_HOME: '~/hf' }, { HF_HUB_CACHE: '', HF_HOME: '' }].map(env =>
      hubCacheFolder(env),
    ),
    [
      ...['/1', '/2', join('/3', 'hub'), join('/4', 'huggingface', 'hub')],
      join(homedir(), '.cache', 'huggingface', 'hub'),
      join(homedir(), 'hf', 'hub'),
      join(homedir(), '.cache', 'huggingface', 'hub'),
    ],
  );
});

test('branches, tags, hashes and their beginnings lead to the snapshot, by links and by copies', async () => {
  for (const copies of [false, true]) {
    using cache = temporaryFolder();
    const { env, snapshot } = makeCache(cache.path, { copies });
    makeCache(cache.path, { copies, commit: `ab${sha('c').slice(2)}`, ref: 'refs/pr/1' });
    const folderOf = async (name: string) => (await findSnapshot(named(name), env)).folder;
    assert.is(await folderOf('org/model'), snapshot);
    assert.is(await folderOf(`org/model@${sha('a')}`), snapshot);
    assert.is(await folderOf('org/model@aaaaaaa'), snapshot);
    assert.match(await folderOf('org/model@abcc'), /abccc/);
    assert.match(await folderOf('org/model@refs/pr/1'), /abccc/);
  }
});

test('what is not in the cache: the command that downloads it', async () => {
  using cache = temporaryFolder();
  const env = { HF_HUB_CACHE: cache.path };
  const fixOf = async (name: string) =>
    findSnapshot(named(name), env).then(
      () => '',
      error => error.fix as string,
    );
  assert.match(
    await rejectsWith(() => findSnapshot(named('org/model'), env), 'CHECKPOINT_MISSING'),
    cache.path,
  );
  assert.match(await fixOf('org/model'), /hf download org\/model {3}/);
  assert.match(await fixOf('org/model@v2'), 'hf download org/model --revision v2');
  makeCache(cache.path, { ref: 'dev' });
  const message = await rejectsWith(() => findSnapshot(named('org/model'), env), 'CHECKPOINT_MISSING');
  assert.match(message, `no revision "main" of it, only dev, ${sha('a')}`);
  assert.match(await fixOf('org/model'), 'org/model@dev');
  assert.match(await fixOf('org/model@bbbb'), 'hf download org/model --revision bbbb');
});

interface Damage {
  readonly what: string;
  readonly code: 'CHECKPOINT_MISSING' | 'CHECKPOINT_CORRUPT' | 'INVALID_ARGUMENT';
  readonly message: string | RegExp;
  readonly name?: string;
  readonly files?: Record<string, string>;
  make?(made: { repo: string; snapshot: string }): void;
}

const index = (...shards: string[]) =>
  JSON.stringify({ weight_map: Object.fromEntries(shards.map((shard, i) => [`t${i}`, shard])) });

const damages: readonly Damage[] = [
  {
    what: 'a ref to a snapshot that is gone',
    code: 'CHECKPOINT_MISSING',
    message: /"main" is commit a+, but .* has no snapshot/,
    make: ({ snapshot }) => rmSync(snapshot, { recursive: true }),
  },
  {
    what: 'a ref with two hashes',
    code: 'CHECKPOINT_CORRUPT',
    message: /refs\/main names no commit/,
    make: ({ repo }) => writeFileSync(join(repo, 'refs', 'main'), `${sha('a')}\n${sha('b')}`),
  },
  {
    what: 'a ref that leads out of the cache',
    code: 'CHECKPOINT_CORRUPT',
    message: /names no commit/,
    make: ({ repo }) => writeFileSync(join(repo, 'refs', 'main'), '../../elsewhere'),
  },
  {
    what: 'an empty ref',
    code: 'CHECKPOINT_CORRUPT',
    message: /names no commit: it reads ""/,
    make: ({ repo }) => writeFileSync(join(repo, 'refs', 'main'), ''),
  },
  {
    what: 'an endless ref',
    code: 'CHECKPOINT_CORRUPT',
    message: /names no commit/,
    make: ({ repo }) => writeFileSync(join(repo, 'refs', 'main'), 'a'.repeat(1 << 20)),
  },
  {
    what: 'a ref that is a link to itself',
    code: 'CHECKPOINT_CORRUPT',
    message: /is a symbolic link to itself/,
    make: ({ repo }) => {
      rmSync(join(repo, 'refs', 'main'));
      symlinkSync('main', join(repo, 'refs', 'main'));
    },
  },
  {
    what: 'an empty snapshot',
    code: 'CHECKPOINT_MISSING',
    message: /is empty/,
    files: {},
  },
  {
    what: 'an empty snapshot beside a stopped download',
    code: 'CHECKPOINT_MISSING',
    message: /is empty; its download was stopped/,
    files: {},
    make: ({ repo }) => writeFileSync(join(repo, 'blobs', 'abc.incomplete'), 'x'),
  },
  {
    what: 'snapshots that is a file',
    code: 'CHECKPOINT_CORRUPT',
    message: /snapshots is not a folder/,
    make: ({ repo }) => {
      rmSync(join(repo, 'snapshots'), { recursive: true });
      writeFileSync(join(repo, 'snapshots'), '');
    },
  },
  {
    what: 'a link into blobs whose blob is still being downloaded',
    code: 'CHECKPOINT_MISSING',
    message: /model\.safetensors is a broken symbolic link; its download was stopped/,
    make: ({ repo }) =>
      renameSync(join(repo, 'blobs', 'aaaaaaaa2'), join(repo, 'blobs', 'aaaaaaaa2.incomplete')),
  },
  {
    what: 'links in a circle',
    code: 'CHECKPOINT_CORRUPT',
    message: /config\.json is a symbolic link to itself/,
    make: ({ snapshot }) => {
      rmSync(join(snapshot, 'config.json'));
      symlinkSync('other', join(snapshot, 'config.json'));
      symlinkSync('config.json', join(snapshot, 'other'));
    },
  },
  {
    what: 'a folder in place of a file',
    code: 'CHECKPOINT_CORRUPT',
    message: /tokenizer\.json is not a file/,
    make: ({ snapshot }) => {
      rmSync(join(snapshot, 'tokenizer.json'));
      mkdirSync(join(snapshot, 'tokenizer.json'));
    },
  },
  {
    what: 'no config.json',
    code: 'CHECKPOINT_MISSING',
    message: /has no config\.json/,
    files: { 'model.safetensors': 'x' },
  },
  {
    what: 'no weights',
    code: 'CHECKPOINT_MISSING',
    message: /has no weights/,
    files: { 'config.json': '{}', 'tokenizer.json': '{}' },
  },
  {
    what: 'weights of another kind only',
    code: 'CHECKPOINT_MISSING',
    message: /only pytorch_model\.bin/,
    files: { 'config.json': '{}', 'pytorch_model.bin': 'x' },
  },
  {
    what: 'missing shards',
    code: 'CHECKPOINT_MISSING',
    message: /lacks 1 of the shards .*\(model-00002-of-00002\.safetensors\)/,
    files: {
      'config.json': '{}',
      'model.safetensors.index.json': index(
        'model-00001-of-00002.safetensors',
        'model-00002-of-00002.safetensors',
      ),
      'model-00001-of-00002.safetensors': 'x',
    },
  },
  {
    what: 'a hash that two commits begin with',
    code: 'INVALID_ARGUMENT',
    message: /several commits begin like this/,
    name: 'org/model@aaaa',
    make: ({ repo }) => mkdirSync(join(repo, 'snapshots', `aaaaa${sha('b').slice(5)}`)),
  },
];

for (const { what, code, message, name = 'org/model', files, make } of damages) {
  test(`damaged cache: ${what}`, async () => {
    using cache = temporaryFolder();
    const made = makeCache(cache.path, files && { files });
    make?.(made);
    assert.match(await rejectsWith(() => findSnapshot(named(name), made.env), code), message);
  });
}

test('damaged cache: a pipe in place of a file is not waited for', async () => {
  using cache = temporaryFolder();
  const { env, snapshot } = makeCache(cache.path);
  rmSync(join(snapshot, 'config.json'));
  execFileSync('mkfifo', [join(snapshot, 'config.json')]);
  const message = await rejectsWith(() => findSnapshot(named('org/model'), env), 'CHECKPOINT_CORRUPT');
  assert.match(message, /config\.json is not a file/);
});

test('a local folder wins, a name keeps its commit while the process runs, a word alone stays a path', async () => {
  using cache = temporaryFolder();
  using work = temporaryFolder();
  const before = { folder: process.cwd(), cache: process.env.HF_HUB_CACHE };
  const { snapshot, repo } = makeCache(cache.path);
  try {
    process.env.HF_HUB_CACHE = cache.path;
    process.chdir(work.path);
    assert.is((await locateModel('org/model')).path, snapshot);
    writeFileSync(join(repo, 'refs', 'main'), sha('b'));
    assert.is((await locateModel('org/model')).snapshot?.commit, sha('a'));
    assert.equal(await locateModel('model'), { path: 'model' });
    assert.equal(await locateModel('./org/other'), { path: './org/other' });
    assert.is(await hiddenReference('org/model'), undefined);
    assert.is(modelName('org/model@v1'), 'org/model');
    assert.is(modelName(`${snapshot}/`), 'org/model');
    mkdirSync(join('org', 'model'), { recursive: true });
    assert.equal(await locateModel('org/model'), { path: 'org/model' });
    assert.is((await hiddenReference('org/model'))?.repo, 'org/model');
    assert.is(modelName('org/model'), 'model');
  } finally {
    process.chdir(before.folder);
    if (before.cache === undefined) delete process.env.HF_HUB_CACHE;
    else process.env.HF_HUB_CACHE = before.cache;
  }
});

test('of a repository, what a model needs: one form of the weights, no pickles, no other formats', () => {
  const common = [
    ...[
      'config.json',
      'generation_config.json',
      'tokenizer.json',
      'tokenizer_config.json',
      'README.md',
      'LICENSE.txt',
    ],
    ...['chat_template.jinja', 'additional_chat_templates/tool_use.jinja', 'tokenizer.model', 'merges.txt'],
  ];
  const other = [
    ...[
      'pytorch_model.bin',
      'consolidated.safetensors',
      'original/params.json',
      'onnx/model.onnx',
      'model.gguf',
    ],
    ...['.gitattributes', 'figure.png', 'modeling_custom.py', 'flax_model.msgpack', 'sub/config.json'],
  ];
  const shards = [
    'model.safetensors.index.json',
    'model-00001-of-00002.safetensors',
    'model-00002-of-00002.safetensors',
  ];
  assert.equal(filesToDownload([...common, ...other, ...shards]), [...common, ...shards]);
  assert.equal(filesToDownload([...common, ...shards, 'model.safetensors']), [
    ...common,
    'model.safetensors',
  ]);
});

test('what huggingface_hub itself has put there is found', async () => {
  const python = process.env.RM_PYTHON;
  if (!python) return;
  using cache = temporaryFolder();
  // Its own functions make names and links; no network is used.
  const program = `
import os, sys
from huggingface_hub.file_download import repo_folder_name, _create_symlink, _cache_commit_hash_for_specific_revision
cache, commit = sys.argv[1], 'd' * 40
repo = os.path.join(cache, repo_folder_name(repo_id='org/name', repo_type='model'))
for name in ['config.json', 'model.safetensors']:
    blob = os.path.join(repo, 'blobs', name[:3]); os.makedirs(os.path.dirname(blob), exist_ok=True); open(blob, 'w').write('{}')
    pointer = os.path.join(repo, 'snapshots', commit, name); os.makedirs(os.path.dirname(pointer), exist_ok=True)
    _create_symlink(blob, pointer, new_blob=True)
_cache_commit_hash_for_specific_revision(repo, 'refs/pr/7', commit)
`;
  execFileSync(python, ['-c', program, cache.path], { env: { ...process.env, HF_HUB_CACHE: cache.path } });
  const env = { HF_HUB_CACHE: cache.path };
  const { folder } = await findSnapshot(named('org/name@refs/pr/7'), env);
  assert.equal(readdirSync(folder).sort(), ['config.json', 'model.safetensors']);
  assert.ok(existsSync(join(folder, 'config.json')));
});

test.run();
