import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hasVulkan } from '../engine/softwareDriver.js';
import { mustRun, type Packed, pack, root, runIn, serveRegistry } from './packed.js';
import { temporaryFolder } from './support.js';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const folder = temporaryFolder();
let packed: Packed;

test.before(async () => {
  packed = await pack(folder.path);
  writeFileSync(join(folder.path, 'package.json'), '{"private":true,"type":"module"}');
  const quiet = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
  using served = await serveRegistry(folder.path, packed);
  const types = `@webgpu/types@${manifest.dependencies['@webgpu/types']}`;
  await mustRun(folder.path, 'npm', ['install', ...quiet, served.registry, served.spec, types]);
});
test.after(() => folder[Symbol.dispose]());

const installed = (...parts: string[]) => join(folder.path, 'node_modules', ...parts);
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

/** Packages by their paths below a package, with their versions: those that lie there. */
function packagesBelow(at: string, path = ''): [string, string][] {
  const own = join(at, path, 'node_modules');
  const names = (existsSync(own) ? readdirSync(own) : [])
    .filter(name => !name.startsWith('.'))
    .flatMap(name =>
      name.startsWith('@') ? readdirSync(join(own, name)).map(part => `${name}/${part}`) : [name],
    );
  return names.flatMap(name => {
    const inner = `${path === '' ? '' : `${path}/`}node_modules/${name}`;
    const { version } = readJson(join(at, inner, 'package.json'));
    return [[inner, version] as [string, string], ...packagesBelow(at, inner)];
  });
}

test('what is installed is what was tested: every package, in its place, in the version of package-lock.json', () => {
  const locked = Object.entries(readJson(join(root, 'package-lock.json')).packages)
    .map(([path, entry]) => [path, entry] as [string, { version: string; dev?: boolean; integrity: string }])
    .filter(([path, { dev }]) => path !== '' && !dev);
  assert.ok(locked.length > 50);
  assert.equal(
    Object.fromEntries(packagesBelow(installed('rm-engine'))),
    Object.fromEntries(locked.map(([path, { version }]) => [path, version])),
  );
  // Where the versions come from: by their hashes, from whatever registry the user has, and nothing of development.
  const text = readFileSync(installed('rm-engine', 'npm-shrinkwrap.json'), 'utf8');
  const shrinkwrap = JSON.parse(text).packages;
  assert.not.match(text, /resolved|"dev"|devDependencies/);
  const integrity = locked.map(([path, entry]) => [path, entry.integrity]);
  assert.equal(
    Object.entries<{ integrity: string }>(shrinkwrap)
      .slice(1)
      .map(([path, entry]) => [path, entry.integrity]),
    integrity,
  );
  const { dependencies, optionalDependencies } = shrinkwrap[''];
  assert.equal([dependencies, optionalDependencies], [manifest.dependencies, manifest.optionalDependencies]);
});

test('npm pack and npm publish write the shrinkwrap before and take it away after', () => {
  assert.is(manifest.scripts.prepack, 'node scripts/run.mjs prepack');
  assert.is(manifest.scripts.postpack, 'node scripts/run.mjs postpack');
  assert.not.ok(existsSync(join(root, 'npm-shrinkwrap.json')));
});

// By the package's own name: through `exports` of package.json, as a program that installed it would.
test('the package and its floors can be imported by name', async () => {
  const top = await import('rm-engine');
  for (const name of ['prune', 'evaluate', 'generate', 'Model', 'Device', 'RmError'])
    assert.ok(name in top, name);
  assert.is((await import('rm-engine/engine')).Device, top.Device);
  assert.type((await import('rm-engine/kernels')).matmul, 'function');
  assert.is((await import('rm-engine/model')).Model, top.Model);
  assert.is((await import('rm-engine/replaceme')).prune, top.prune);
});

test('the tarball holds what a user needs and nothing else', () => {
  const paths = packed.files.map(({ path }) => path);
  const allowed =
    /^(dist\/|assets\/|docs\/[^/]+\.(md|schema\.json)$|docs\/report-top-\w+\.png$|examples\/[^/]+\.ts$|(bench|examples)\/([\w-]+\/)?README\.md$|[A-Za-z]+(\.md)?$|package\.json$|npm-shrinkwrap\.json$)/;
  assert.equal(
    paths.filter(path => !allowed.test(path)),
    [],
  );
  assert.equal(
    paths.filter(path => /\.map$|^dist\/(test|examples)\/|node_modules/.test(path)),
    [],
  );
  for (const needed of ['LICENSE', 'README.md', 'dist/cli/main.js', 'dist/index.d.ts'])
    assert.ok(paths.includes(needed), needed);
  assert.ok(paths.some(path => path.startsWith('assets/demo-model/')));
  // The demo model is 4.4 MB of it, Python's library for templates 1.6 MB.
  assert.ok(packed.size < 7.5e6, `${packed.size} bytes`);
});

test('documents of the tarball link to files that are in it', () => {
  const paths = new Set(packed.files.map(({ path }) => path));
  const isThere = (path: string) =>
    paths.has(path) || [...paths].some(other => other.startsWith(`${path.replace(/\/$/, '')}/`));
  const dead = [...paths]
    .filter(path => path.endsWith('.md'))
    .flatMap(path => {
      const text = readFileSync(installed('rm-engine', path), 'utf8');
      const targets = [...text.matchAll(/(?:\]\(|src="|srcset="|href=")([^)"\s#]+)/g)]
        .map(([, target]) => target!)
        .filter(target => !/^[a-z]+:/.test(target));
      return targets.map(target => join(path, '..', target)).filter(target => !isThere(target));
    });
  // A megabyte of pictures.
  assert.equal(
    dead.filter(path => !/^docs\/report-\w+-\w+\.png$/.test(path)),
    [],
  );
});

test('it installs without a compiler and without development dependencies', () => {
  for (const name of Object.keys(manifest.devDependencies)) {
    for (const path of [installed(name), installed('rm-engine', 'node_modules', name)])
      assert.not.ok(existsSync(path), path);
  }
  const compiled: string[] = [];
  const walk = (at: string) => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.name === 'binding.gyp') compiled.push(at);
      if (entry.isDirectory()) walk(join(at, entry.name));
    }
  };
  walk(installed());
  assert.equal(compiled, []);
  // Dependencies are exact, so that a user gets what was tested.
  for (const version of Object.values(manifest.dependencies))
    assert.match(version as string, /^\d+\.\d+\.\d+$/);
});

test('npx rm-engine: version, and doctor', async () => {
  assert.is(await mustRun(folder.path, 'npx', ['rm-engine', '--version']), `${manifest.version}\n`);
  const { status, stdout } = await runIn(folder.path, 'npx', ['rm-engine', 'doctor']);
  if (hasVulkan()) assert.is(status, 0, stdout);
  else assert.match(stdout, /npm install @sparticuz\/chromium/);
});

const program = `
import { Device, type DeviceOptions, evaluate, Model, prune, type PruneReport, RmError } from 'rm-engine';
import { downloadF32, type ProgramSpec, Scope, type Tensor, tensorFrom } from 'rm-engine/engine';
import { matmul, type MatmulOptions } from 'rm-engine/kernels';
import { Batch, type Evaluation, forward, type Tap } from 'rm-engine/model';
import { methods, type Window } from 'rm-engine/replaceme';

declare function print(...values: unknown[]): void;
const options: DeviceOptions = { profile: true };
const tap: Tap = (layer, { layerOutput }) => print(layer, layerOutput.shape);
export async function run(folder: string): Promise<number[]> {
  await using device = await Device.open(options);
  using scope = new Scope(device);
  const a: Tensor = scope.own(tensorFrom(device, new Float32Array(4), [2, 2]));
  const how: MatmulOptions = { transposeB: true };
  const out = scope.tensor([2, 2]);
  matmul(device.recorder, a, a, out, how);
  const buffer: GPUBuffer = out.buffer.gpu;
  using model = await Model.load(device, folder);
  using batch = new Batch(device, [[1, 2]]);
  using hidden = forward(model, batch, { tap });
  const scores: Evaluation = await evaluate(model, [[1, 2, 3]]);
  const report: PruneReport = await prune(folder, 'out', { layers: 1, onProgress: ({ done }) => print(done) });
  const windows: readonly Window[] = report.selection.windows;
  const program: ProgramSpec = { key: 'k', bindings: ['read'], wgsl: () => '' };
  print(buffer.size, methods.length, windows, program, new RmError('DATA_INVALID', 'a', 'b').fix);
  // @ts-expect-error: types are really there
  scores.perplexity satisfies string;
  return [...(await downloadF32(hidden))];
}
`;

// WebGPU's own types come with TypeScript's DOM library, or with @webgpu/types, which lean on that library.
const settings = [
  { module: 'nodenext', moduleResolution: 'nodenext', types: [], skipLibCheck: false },
  {
    module: 'esnext',
    moduleResolution: 'bundler',
    lib: ['es2022'],
    types: ['@webgpu/types'],
    skipLibCheck: true,
  },
];
for (const own of settings) {
  test(`a strict program has types, moduleResolution ${own.moduleResolution}`, async () => {
    const project = join(folder.path, own.moduleResolution);
    mkdirSync(project);
    writeFileSync(join(project, 'program.ts'), program);
    const strict = { strict: true, exactOptionalPropertyTypes: true };
    const compilerOptions = { target: 'es2022', noEmit: true, ...strict, ...own };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
    await mustRun(project, process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', '.']);
  });
}

test.run();
