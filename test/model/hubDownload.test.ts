import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { pauses } from '../../model/hub/blob.js';
import { downloadModel } from '../../model/hub/download.js';
import { locateModel } from '../../model/hub/locate.js';
import { rejectsWith } from '../gpu.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { gitHash, type HubServer, type ListedEntry, startHub } from './hubServer.js';

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

// A second and more in earnest.
pauses.first = 5;
pauses.longest = 20;

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
      const end = content.byteLength;
      response.writeHead(request.headers.range ? 206 : 200, {
        'content-length': end - first,
        ...(request.headers.range && { 'content-range': `bytes ${first}-${end - 1}/${end}` }),
      });
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
        // Without a length, which would be compared first.
        else response.writeHead(200).end(changed);
        return true;
      };
    };
    const fails = () => rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    only(content => Buffer.concat([content.subarray(1), Buffer.from('x')]));
    assert.match(await fails(), /model\.safetensors: .* SHA-256 differs/);
    only(content => Buffer.concat([content, content]));
    assert.match(await fails(), /sends more than/);
    only(() => undefined);
    assert.match(await fails(), /after 5 attempts the connection ends at byte 0 of/);
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

/** What a cache holds of the model: names of complete blobs, and of files of snapshots. */
const cached = (cache: string) => {
  const folder = join(cache, 'models--org--name');
  const namesIn = (name: string) => (existsSync(join(folder, name)) ? readdirSync(join(folder, name)) : []);
  return namesIn('blobs').filter(name => !name.endsWith('.incomplete'));
};

downloads('a small file is checked by the git hash that is known', () =>
  withHub(async (hub, cache, files) => {
    const config = files.get('config.json')!;
    hub.trouble = (request, response, content) => {
      if (!request.url!.endsWith('/config.json')) return false;
      const changed = Buffer.from(content);
      changed[changed.indexOf('6')] = 55;
      response.writeHead(200, { 'content-length': changed.byteLength }).end(changed);
      return true;
    };
    const message = await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    assert.match(message, /config\.json: the downloaded file's git hash differs/);
    assert.not(cached(cache).includes(gitHash(config)));
    hub.trouble = undefined;
    await downloadModel('org/name');
    assert.ok(cached(cache).includes(gitHash(config)));
  }),
);

downloads("what a hub's list may not say is refused before anything is fetched", () =>
  withHub(async (hub, cache) => {
    const entry = (entries: ListedEntry[], path: string) => entries.find(item => item.path === path)!;
    const lies: [what: string, change: (entries: ListedEntry[]) => unknown, words: RegExp][] = [
      ['no hash', e => delete entry(e, 'config.json').oid, /config\.json: .*oid is missing/],
      ['a hash that leads elsewhere', e => (entry(e, 'config.json').oid = '../../../x'), /oid is/],
      ['a short SHA-256', e => (entry(e, 'model.safetensors').lfs!.oid = 'abc'), /not a SHA-256/],
      ['a negative size', e => (entry(e, 'config.json').size = -1), /size is -1/],
      ['a size that is none', e => (entry(e, 'config.json').size = 'big'), /size is "big"/],
      ['no size', e => delete entry(e, 'config.json').size, /size is missing/],
      ['an endless size', e => (entry(e, 'config.json').size = 2 ** 50), /which no such file has/],
      [
        'an endless weight',
        e => (entry(e, 'model.safetensors').lfs!.size = 2 ** 52),
        /which no such file has/,
      ],
      ['half a byte', e => (entry(e, 'model.safetensors').lfs!.size = 0.5), /not a whole number/],
      ['a name twice', e => e.push(entry(e, 'config.json')), /"config\.json" twice/],
    ];
    for (const [what, change, words] of lies) {
      hub.requests.length = 0;
      hub.listing = entries => {
        change(entries);
        return entries;
      };
      assert.match(await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'), words, what);
      assert.not(
        hub.requests.some(path => path.includes('/resolve/')),
        what,
      );
    }
    // Names that lead out of the folder are no names of a model's files; of twins in capitals the first is taken.
    const evil = [
      '../config.json',
      '/etc/passwd',
      'a/../../x.json',
      'C:\\config.json',
      'config.json\0.txt',
      '..',
    ];
    hub.listing = entries => [
      ...entries,
      ...[...evil, 'readme.MD', 'README.md.', 'LICENSE..', '__proto__', 'constructor'].map(path => ({
        ...{ type: 'file', path, oid: 'a'.repeat(40), size: 3 },
      })),
      null,
      7,
      { type: 'file', path: { toString: 'config.json' } },
    ];
    const { folder } = await downloadModel('org/name');
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
    assert.equal(readdirSync(cache), ['models--org--name']);
  }),
);

downloads('lists and answers without end are ended', () =>
  withHub(async hub => {
    hub.listing = (_, request, response) => {
      const { host } = request.headers;
      response.writeHead(200, {
        'content-type': 'application/json',
        link: `<http://${host}${request.url}>; rel="next"`,
      });
      response.end('[]');
    };
    assert.match(await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'), /a list without end/);
    hub.listing = (_, _request, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      const piece = Buffer.alloc(2 ** 20, 32);
      const more = () => {
        while (!response.destroyed && response.write(piece));
      };
      response.on('drain', more);
      more();
    };
    assert.match(
      await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'),
      /an answer without end/,
    );
    hub.listing = (_, _request, response) => {
      response.writeHead(200, {
        'content-type': 'application/json',
        link: '<http://127.0.0.2:9/list>; rel="next"',
      });
      response.end('[]');
    };
    assert.match(
      await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED'),
      /names 127\.0\.0\.2:9 as a part of itself/,
    );
  }),
);

downloads('a length that differs from the list, and another part than was asked for, are refused', () =>
  withHub(async (hub, cache, files) => {
    const weights = files.get('model.safetensors')!;
    const answer = (status: number, headers: Record<string, string | number>, body: Buffer) => {
      hub.trouble = (request, response) => {
        if (!request.url!.includes('safetensors')) return false;
        response.writeHead(status, headers).end(body);
        return true;
      };
    };
    const fails = () => rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    answer(200, { 'content-length': 3 }, Buffer.from('abc'));
    assert.match(await fails(), /announces 3 bytes where its list has/);
    const all = weights.byteLength;
    answer(206, { 'content-range': `bytes 7-${all - 1}/${all}` }, weights.subarray(7));
    assert.match(await fails(), /another part of the file/);
    answer(206, {}, weights);
    assert.match(await fails(), /another part of the file/);
    answer(403, {}, Buffer.from('no'));
    assert.match(await fails(), /denies access \(403\)/);

    // A server that knows no ranges begins anew.
    const blob = createHash('sha256').update(weights).digest('hex');
    const blobs = join(cache, 'models--org--name', 'blobs');
    writeFileSync(join(blobs, `${blob}.incomplete`), Buffer.alloc(100));
    answer(200, { 'content-length': all }, weights);
    const { folder } = await downloadModel('org/name');
    assert.equal(readFileSync(join(folder, 'model.safetensors')), weights);
  }),
);

downloads('drops are answered by growing pauses, and have an end', () =>
  withHub(async (hub, cache) => {
    const times: number[] = [];
    let status = 503;
    hub.trouble = (request, response) => {
      if (!request.url!.includes('safetensors')) return false;
      times.push(performance.now());
      // A byte at a time is no progress.
      if (status === 200)
        response
          .writeHead(206, { 'content-range': `bytes ${times.length - 1}-9/*` })
          .write('x', () => response.destroy());
      else response.writeHead(status, { 'retry-after': '0' }).end('busy');
      return true;
    };
    const usual = { ...pauses };
    Object.assign(pauses, { first: 40, longest: 100 });
    try {
      const message = await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
      assert.match(message, /after 5 attempts .*status 503/);
      const waits = times.slice(1).map((time, i) => time - times[i]!);
      assert.is(waits.length, 4);
      for (const [i, least] of [40, 80, 100, 100].entries()) assert.ok(waits[i]! >= least - 2, `${waits}`);
    } finally {
      Object.assign(pauses, usual);
    }
    status = 200;
    times.length = 0;
    const message = await rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    assert.match(message, /after 5 attempts the connection ends at byte|another part/);
    assert.ok(times.length <= 5);
    hub.trouble = undefined;
    rmSync(cache, { recursive: true });
    await downloadModel('org/name');
  }),
);

downloads('an unfinished file that is a link, a second name or no file is left alone', () =>
  withHub(async (_hub, cache, files) => {
    const config = `${gitHash(files.get('config.json')!)}.incomplete`;
    const blobs = join(cache, 'models--org--name', 'blobs');
    mkdirSync(blobs, { recursive: true });
    using elsewhere = temporaryFolder();
    const mine = join(elsewhere.path, 'mine.txt');
    for (const [words, make] of [
      [/is a symbolic link/, (path: string) => symlinkSync(mine, path)],
      [/is a symbolic link/, (path: string) => symlinkSync(join(elsewhere.path, 'not there'), path)],
      [/is a second name of another file/, (path: string) => linkSync(mine, path)],
      [/is not a file/, (path: string) => mkdirSync(path)],
    ] as const) {
      writeFileSync(mine, 'my own words');
      make(join(blobs, config));
      assert.match(await rejectsWith(() => downloadModel('org/name'), 'OUTPUT_EXISTS'), words);
      assert.is(readFileSync(mine, 'utf8'), 'my own words');
      assert.equal(readdirSync(elsewhere.path), ['mine.txt']);
      rmSync(join(blobs, config), { recursive: true });
    }
    await downloadModel('org/name');
  }),
);

downloads('redirects lead to https or to the same host, and the token stays at home', () =>
  withHub(async hub => {
    const fails = () => rejectsWith(() => downloadModel('org/name'), 'DOWNLOAD_FAILED');
    for (const [location, words] of [
      ['http://127.0.0.2:1/weights', /leads to http:\/\/127\.0\.0\.2:1, which is neither https/],
      ['file:///etc/passwd', /leads to file:/],
      ['http://', /an address that is none/],
    ] as const) {
      hub.location = () => location;
      assert.match(await fails(), words);
    }
    hub.location = () => `${hub.url}/org/name/resolve/${hub.commit}/model.safetensors`;
    assert.match(await fails(), /from one address to another without end/);
    hub.location = undefined;
    await downloadModel('org/name');
    assert.equal([...hub.tokens], ['Bearer secret', undefined]);
  }, 'secret'),
);

test.run();
