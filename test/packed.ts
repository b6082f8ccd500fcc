import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as assert from 'uvu/assert';

/** The repository's root, seen from dist/test/. */
export const root = fileURLToPath(new URL('../../', import.meta.url));

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program as a user's shell would: without what npm hands to scripts that it started. */
export function runIn(folder: string, program: string, args: readonly string[]): Promise<Ran> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^(npm_|INIT_CWD$|NODE_OPTIONS$|FORCE_COLOR$)/i.test(name),
    ),
  );
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', text => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', text => {
      stderr += text;
    });
    child.on('error', reject);
    child.on('close', status => resolve({ status, stdout, stderr }));
  });
}

/** The lines of `stdout` when all went well. */
export async function mustRun(folder: string, program: string, args: readonly string[]): Promise<string> {
  const { status, stdout, stderr } = await runIn(folder, program, args);
  assert.is(status, 0, `${program} ${args.join(' ')}\n${stdout}\n${stderr}`);
  return stdout;
}

export interface Packed {
  readonly filename: string;
  /** Bytes of the tarball, and unpacked. */
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

/** `npm pack` of this checkout as it was built, into `folder`: in a copy, since others may pack or install at the same time. */
export async function pack(folder: string): Promise<Packed> {
  const copy = join(folder, 'to-pack');
  const packed = async (at: string, ...args: string[]) => {
    const text = await mustRun(at, 'npm', ['pack', '--json', '--ignore-scripts', ...args]);
    // A list up to npm 10, then an object by name.
    return Object.values(JSON.parse(text))[0] as Packed;
  };
  for (const { path } of (await packed(root, '--dry-run')).files) cpSync(join(root, path), join(copy, path));
  // What `npm pack` itself runs before; it would also build again, under the tests that run now.
  const { writeShrinkwrap } = await import(pathToFileURL(join(root, 'scripts', 'shrinkwrap.mjs')).href);
  writeShrinkwrap(copy);
  const result = await packed(copy, '--pack-destination', folder);
  rmSync(copy, { recursive: true });
  return result;
}

/**
 * A registry with this one package, as `@local/rm-engine`: all that npm obeys npm-shrinkwrap.json for. From a tarball alone
 * it does not look for one, and what the registry says in its place is `_hasShrinkwrap`.
 */
export async function serveRegistry(folder: string, { filename }: Packed) {
  const tarball = readFileSync(join(folder, filename));
  const { version, ...manifest } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const name = '@local/rm-engine';
  const integrity = `sha512-${createHash('sha512').update(tarball).digest('base64')}`;
  const server = createServer(({ url, headers }, response) => {
    if (url!.endsWith('.tgz')) {
      response.end(tarball);
      return;
    }
    const dist = { tarball: `http://${headers.host}/${filename}`, integrity };
    const published = { ...manifest, name, version, dist, _hasShrinkwrap: true };
    response.end(
      JSON.stringify({ name, 'dist-tags': { latest: version }, versions: { [version]: published } }),
    );
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    /** For npm: where names of this scope are. */
    registry: `--@local:registry=http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    spec: `rm-engine@npm:${name}@${version}`,
    [Symbol.dispose]: () => server.close(),
  };
}
