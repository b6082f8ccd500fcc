/** Nothing that is printed, written or thrown holds a token or a password. A few seconds. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { RmError } from '../../engine/errors.js';
import { withoutCredentials } from '../../engine/withoutCredentials.js';
import { hubConnection } from '../../model/hub/connection.js';
import { downloadModel } from '../../model/hub/download.js';
import { rmEngine } from '../cli/support.js';
import { workplace } from '../replaceme/workplace.js';
import { saySkipped, temporaryFolder } from '../support.js';

const SECRET = 'hf_Zq8secretWxyz';
/** Every part of it that is long enough to tell. */
const assertSecret = (text: string, what = text) => assert.not.match(text, /Zq8|secretW|Wxyz/i, what);

const hasHub = (() => {
  try {
    return Boolean(import.meta.resolve('@huggingface/hub'));
  } catch {
    return false;
  }
})();

const thrown = async (work: () => Promise<unknown>): Promise<RmError> => {
  try {
    await work();
  } catch (error) {
    assert.instance(error, RmError);
    return error as RmError;
  }
  throw new Error('nothing was thrown');
};

const within = [
  '\n',
  '\r\n',
  '\r',
  '\0',
  ' ',
  '\t',
  '\u001b',
  '\u007f',
  '\u0085',
  '\u00a0',
  '\u2028',
  'ü',
  '模',
  '🦙',
  '\ufeff',
];

test('a token that no header can carry is refused before it is used, and not repeated', async () => {
  using folder = temporaryFolder();
  const path = join(folder.path, 'token');
  for (const character of within) {
    const token = `hf_Zq8${character}secretWxyz`;
    writeFileSync(path, `${token}\n`);
    const environments = {
      HF_TOKEN: { HF_TOKEN: token },
      HUGGING_FACE_HUB_TOKEN: { HUGGING_FACE_HUB_TOKEN: token },
      [path]: { HF_TOKEN_PATH: path },
    };
    for (const [place, env] of Object.entries(environments)) {
      const error = await thrown(() => hubConnection(undefined, env));
      assert.is(error.code, 'INVALID_ARGUMENT');
      assert.ok(error.message.startsWith(`${place}: is no token`), error.message);
      assertSecret(inspect(error, { depth: 9 }));
    }
  }
  const long = await thrown(() => hubConnection(undefined, { HF_TOKEN: 'Zq8'.repeat(5000) }));
  assertSecret(inspect(long));
  // A line end behind it is no part of it.
  for (const end of ['\n', '\r\n', ' ']) await hubConnection(undefined, { HF_TOKEN: `${SECRET}${end}` });
});

test('an address with a password is refused and not repeated', async () => {
  const addresses = [
    ...[
      `https://user:${SECRET}@host`,
      `https://${SECRET}@host/`,
      `http://user:${SECRET}@host:1/a`,
      `https://:${SECRET}@host`,
    ],
    ...[`https://host/?token=${SECRET}`, `https://host/#${SECRET}`, `https://user:a@b/${SECRET}@host`],
    ...[
      `https//user:${SECRET}@host`,
      `user:${SECRET}@host`,
      `ftp://user:${SECRET}@host`,
      `https://user:${SECRET}`,
    ],
    ...[`https://user:${SECRET}@ho st`, `https://user:${SECRET}/x@host`],
  ];
  for (const HF_ENDPOINT of addresses) {
    const error = await thrown(() => hubConnection(undefined, { HF_ENDPOINT }));
    assert.is(error.code, 'INVALID_ARGUMENT');
    assert.match(error.message, /^HF_ENDPOINT /);
    assertSecret(inspect(error, { depth: 9 }), HF_ENDPOINT);
  }
  assert.is(
    (await hubConnection(undefined, { HF_ENDPOINT: 'https://Hub.example/a//' })).hubUrl,
    'https://hub.example/a',
  );
});

test('URLs in any text: without user, password and query', () => {
  const cases: [text: string, shown: string][] = [
    ['proxy http://user:pw@host:8080/ refuses', 'proxy http://***@host:8080/ refuses'],
    ['"socks5://u:p@ss@host"', '"socks5://***@host"'],
    ['https://token@host/x?X-Sig=abc&b=1 twice https://a:b@c', 'https://***@host/x?*** twice https://***@c'],
    ['https://host/a@b?', 'https://host/a@b?'],
    ['mail a@b.c about org/name@main', 'mail a@b.c about org/name@main'],
  ];
  for (const [text, shown] of cases) assert.is(withoutCredentials(text), shown);
});

/** A hub that says in every way what it was sent. */
async function echoingHub(status: number, type: string) {
  const server = createServer((request, response) => {
    const said = `you sent ${request.headers.authorization}`;
    const body =
      type === 'application/json'
        ? JSON.stringify({ error: said, message: said, error_description: said })
        : said;
    response.writeHead(status, said.replace(/[^\x20-\x7e]/g, ''), {
      'content-type': type,
      'x-request-id': said,
    });
    response.end(body);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => new Promise(resolve => server.close(resolve)),
  };
}

if (!hasHub) saySkipped('hubs that repeat the token: @huggingface/hub is not installed');
else {
  test('a hub that sends the token back: not in message, causes, stacks or output', async () => {
    using folder = temporaryFolder();
    for (const [status, type] of [
      [400, 'application/json'],
      [401, 'application/json'],
      [404, 'text/plain'],
      [500, 'application/json'],
      [200, 'text/plain'],
    ] as const) {
      const hub = await echoingHub(status, type);
      const env = { HF_ENDPOINT: hub.url, HF_TOKEN: SECRET, HF_HUB_CACHE: folder.path };
      const before = { ...process.env };
      try {
        Object.assign(process.env, env);
        const error = await thrown(() => downloadModel('org/name'));
        assertSecret(inspect(error, { depth: 9, showHidden: true }), `${status}`);
        assertSecret(JSON.stringify(error.cause ?? ''));
        if (status !== 400) continue;
        const words = ['inspect', 'org/name', '--download', '--json', '--verbose'];
        const { stdout, stderr } = await rmEngine(words, {
          env: { ...env, HTTPS_PROXY: `http://u:${SECRET}@127.0.0.1:9` },
        });
        assertSecret(stdout + stderr);
        assert.match(stdout, /DOWNLOAD_FAILED/);
      } finally {
        process.env = before;
        await hub.close();
      }
    }
  });
}

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map(name => join(folder, name))
    .filter(path => statSync(path).isFile());

test('commands with secrets in their environment: output, reports, cards, journals', async () => {
  using place = await workplace();
  const url = `http://u:${SECRET}@127.0.0.1:9`;
  const env = {
    HF_TOKEN: SECRET,
    HF_ENDPOINT: url,
    HTTPS_PROXY: url,
    HTTP_PROXY: url,
    https_proxy: url,
    ALL_PROXY: url,
  };
  const prune = [
    'prune',
    place.model,
    place.out,
    '--layers',
    '2',
    '--method',
    'replaceme-ls',
    '--calib',
    place.calibration,
  ];
  for (const words of [
    [...prune, '--tokens', '512', '--sequence-length', '64', '--verbose', '--json'],
    [
      'slurm',
      place.model,
      `${place.out}2`,
      '--shards',
      '2',
      '--remove',
      '3,4',
      '--method',
      'replaceme-ls',
      '--calib',
      place.calibration,
    ],
    ['doctor', '--json', '--verbose'],
    ['inspect', 'org/name', '--download', '--verbose', '--json'],
    ['inspect', url, '--verbose', '--json'],
    ['eval', place.model, `${url}/text.txt`, '--verbose'],
  ]) {
    const { status, stdout, stderr } = await rmEngine(words, { env, cwd: place.path });
    if (words[0] === 'prune' || words[0] === 'slurm') assert.is(status, 0, stderr);
    assertSecret(stdout + stderr, words.join(' '));
  }
  for (const path of filesIn(place.path)) assertSecret(readFileSync(path, 'latin1'), path);
  assert.ok(filesIn(place.out).some(path => path.endsWith('report.json')));
});

test.run();
