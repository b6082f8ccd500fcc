import { execFileSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { downloadModel } from '../../model/hub/download.js';
import { locateModel } from '../../model/hub/locate.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { type HubServer, startHub } from './hubServer.js';

/** The tiny model's files, weights in shards, with what must not be downloaded beside them. */
async function tinyRepository(): Promise<Map<string, Buffer>> {
  using folder = temporaryFolder();
  await writeTinyModel(folder.path);
  const files = new Map(
    readdirSync(folder.path).map(name => [name, readFileSync(join(folder.path, name))] as const),
  );
  const other = {
    'pytorch_model.bin': 'pickle',
    'README.md': '# card',
    'additional_chat_templates/rag.jinja': 'r',
  };
  for (const [name, text] of Object.entries(other)) files.set(name, Buffer.from(text));
  return files;
}

/** Runs `work` with the hub and a cache of its own in the environment. */
async function withHub(
  work: (hub: HubServer, cache: string, files: Map<string, Buffer>) => Promise<void>,
  token?: string,
): Promise<void> {
  using cache = temporaryFolder();
  const files = await tinyRepository();
  const hub = await startHub(files, token);
  const own = {
    HF_ENDPOINT: `${hub.url}/`,
    HF_HUB_CACHE: cache.path,
    HF_TOKEN: token ?? '',
    HF_HUB_OFFLINE: '',
  };
  const before = Object.keys(own).map(name => [name, process.env[name]] as const);
  try {
    Object.assign(process.env, own);
    await work(hub, cache.path, files);
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await hub.close();
  }
}

/** The optional package may be absent; then only its absence can be tested. */
let installed = true;
try {
  import.meta.resolve('@huggingface/hub');
} catch {
  installed = false;
  saySkipped('downloads: @huggingface/hub is not installed');
}
const downloads = installed ? test : test.skip;

downloads('a model goes into the cache as huggingface_hub would put it, and nothing that is not needed', () =>
  withHub(async (hub, cache, files) => {
    const events: number[] = [];
    const { folder, commit } = await downloadModel('org/name', {
      onProgress: ({ done, total }) => events.push(done / total),
    });
    assert.is(commit, hub.commit);
    assert.is(folder, join(cache, 'models--org--name', 'snapshots', commit));
    assert.equal(readdirSync(folder).sort(), [
      ...[
        'README.md',
        'additional_chat_templates',
        'config.json',
        'generation_config.json',
        'model.safetensors',
      ],
      ...['tokenizer.json', 'tokenizer_config.json'],
    ]);
    for (const [name, content] of files) {
      if (name !== 'pytorch_model.bin') assert.equal(readFileSync(join(folder, name)), content);
    }
    assert.ok(lstatSync(join(folder, 'model.safetensors')).isSymbolicLink());
    assert.is(readFileSync(join(cache, 'models--org--name', 'refs', 'main'), 'utf8'), commit);
    assert.is(events.at(-1), 1);
    assert.equal(events, [...events].sort());
    assert.is((await locateModel('org/name@c0ffee')).path, folder);
    // Once more: nothing but the listing is asked for.
    hub.requests.length = 0;
    await downloadModel('org/name');
    assert.is(hub.requests.length, 2, hub.requests.join('\n'));
    const python = process.env.RM_PYTHON;
    if (!python) return;
    const program =
      "from huggingface_hub import snapshot_download; print(snapshot_download('org/name', local_files_only=True))";
    const found = execFileSync(python, ['-c', program], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    assert.is(found.trim(), folder);
  }),
);

downloads('connections that break and downloads that were stopped go on where they ended', () =>
  withHub(async (hub, cache, files) => {
    let breaks = 2;
    const ranges: (string | undefined)[] = [];
    hub.trouble = (request, response, content) => {
      if (!request.url!.includes('safetensors')) return false;
      ranges.push(request.headers.range);
      if (breaks-- <= 0) return false;
      const first = Number(/\d+/.exec(request.headers.range ?? '0')![0]);
      response.writeHead(request.headers.range ? 206 : 200, { 'content-length': content.byteLength - first });
      response.write(content.subarray(first, first + 1000), () => response.destroy());
      return true;
    };
    const { folder } = await downloadModel('org/name');
    const weights = files.get('model.safetensors')!;
    assert.equal(readFileSync(join(folder, 'model.safetensors')), weights);
    assert.equal(ranges, [
      undefined,
      `bytes=1000-${weights.byteLength - 1}`,
      `bytes=2000-${weights.byteLength - 1}`,
    ]);

    // As a process leaves it that was killed.
    const blobs = join(cache, 'models--org--name', 'blobs');
    const large = readdirSync(blobs).find(name => name.length === 64)!;
    truncateSync(join(blobs, large), 5000);
    renameSync(join(blobs, large), join(blobs, `${large}.incomplete`));
    const message = await rejectsWith(() => locateModel('org/name'), 'CHECKPOINT_MISSING').catch(String);
    ranges.length = 0;
    const seen: number[] = [];
    await downloadModel('org/name', { onProgress: ({ done }) => seen.push(done) });
    assert.equal(ranges, [`bytes=5000-${weights.byteLength - 1}`], message);
    assert.equal(readFileSync(join(folder, 'model.safetensors')), weights);
    assert.not(existsSync(join(blobs, `${large}.incomplete`)));
  }),
);

downloads('what comes damaged, too long or not at all is refused and never gets its name', () =>
  withHub(async (hub, cache) => {
    const only = (change: (content: Buffer) => Buffer | undefined) => {
      hub.trouble = (request, response, content) => {
        if (!request.url!.includes('safetensors')) return false;
        const changed = change(content);
        if (!changed) response.destroy();
        else response.writeHead(200, { 'content-length': changed.byteLength }).end(changed);
        return true;
      };
    };
    const fails = () => rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    only(content => Buffer.concat([content.subarray(1), Buffer.from('x')]));
    assert.match(await fails(), /model\.safetensors: .* SHA-256 differs/);
    only(content => Buffer.concat([content, content]));
    assert.match(await fails(), /sends more than/);
    only(() => undefined);
    assert.match(await fails(), /the connection ends at byte 0 of/);
    const folder = join(cache, 'models--org--name');
    assert.not(existsSync(join(folder, 'refs')));
    assert.not(existsSync(join(folder, 'snapshots', hub.commit, 'model.safetensors')));
    assert.match(await rejectsWith(() => locateModel('org/name@c0ffee'), 'CHECKPOINT_MISSING'), /no weights/);
    hub.trouble = undefined;
    await downloadModel('org/name');
    assert.is((await locateModel('org/name')).snapshot?.commit, hub.commit);
  }),
);

downloads('the token goes to the hub and not to where its files lie; refusals say what to do', () =>
  withHub(async hub => {
    await downloadModel('org/name');
    assert.equal([...hub.tokens], ['Bearer secret', undefined]);
    process.env.HF_TOKEN = 'wrong';
    assert.match(
      await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'),
      /denies access \(401\)/,
    );
    process.env.HF_TOKEN = 'secret';
    assert.match(
      await rejectsWith(() => downloadModel('org/none'), 'DOWNLOAD_FAILED'),
      /no such model or revision/,
    );
    process.env.HF_HUB_OFFLINE = '1';
    assert.match(await rejectsWith(() => downloadModel('org/name'), 'INVALID_ARGUMENT'), /HF_HUB_OFFLINE/);
    process.env.HF_HUB_OFFLINE = '0';
    process.env.HF_ENDPOINT = 'hub';
    assert.match(await rejectsWith(() => downloadModel('org/name'), 'INVALID_ARGUMENT'), /HF_ENDPOINT/);
    process.env.HF_ENDPOINT = 'http://127.0.0.1:9';
    assert.match(await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'), /cannot be reached/);
    await rejectsWith(() => downloadModel('./folder'), 'INVALID_ARGUMENT');
  }, 'secret'),
);

downloads('Ctrl-C keeps what has come', () =>
  withHub(async (hub, cache, files) => {
    const abort = new AbortController();
    const blobs = join(cache, 'models--org--name', 'blobs');
    const kept = () =>
      readdirSync(blobs)
        .filter(name => name.endsWith('.incomplete'))
        .map(name => statSync(join(blobs, name)).size);
    hub.trouble = (request, response, content) => {
      if (!request.url!.includes('safetensors')) return false;
      response.writeHead(200, { 'content-length': content.byteLength });
      response.write(content.subarray(0, 4000));
      const looking = setInterval(() => {
        if (!kept().includes(4000)) return;
        clearInterval(looking);
        abort.abort(new Error('stopped'));
      }, 10);
      return true;
    };
    const stopped = await downloadModel('org/name', { signal: abort.signal }).catch(error => error.message);
    assert.is(stopped, 'stopped');
    assert.equal(kept(), [4000]);
    hub.trouble = undefined;
    const { folder } = await downloadModel('org/name');
    assert.equal(readFileSync(join(folder, 'model.safetensors')), files.get('model.safetensors'));
  }),
);

test.run();
