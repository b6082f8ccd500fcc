// The packed package as others meet it: what is in it, compilers, bundlers, other runtimes (test/outside). Costs 40 s.
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hasVulkan } from '../engine/softwareDriver.js';
import { mustRun, type Packed, pack, root, runIn, serveRegistry } from './packed.js';
import { saySkipped, temporaryFolder } from './support.js';

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
  assert.ok(locked.length > 10);
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
  assert.equal(shrinkwrap[''].dependencies, manifest.dependencies);
  for (const name of Object.keys(manifest.peerDependencies)) assert.not.ok(existsSync(installed(name)), name);
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
  const bound: unknown = out.buffer.gpu;
  using model = await Model.load(device, folder);
  using batch = new Batch(device, [[1, 2]]);
  using hidden = forward(model, batch, { tap });
  const scores: Evaluation = await evaluate(model, [[1, 2, 3]]);
  const report: PruneReport = await prune(folder, 'out', { layers: 1, onProgress: ({ done }) => print(done) });
  const windows: readonly Window[] = report.selection.windows;
  const program: ProgramSpec = { key: 'k', bindings: ['read'], wgsl: () => '' };
  print(bound, methods.length, windows, program, new RmError('DATA_INVALID', 'a', 'b').fix);
  // @ts-expect-error: types are really there
  scores.perplexity satisfies string;
  return [...(await downloadF32(hidden))];
}
`;

/** A program of test/outside; undefined where they are not installed. */
const outside = (...parts: string[]): string | undefined => {
  const path = join(root, 'test', 'outside', 'node_modules', ...parts);
  return existsSync(path) ? path : undefined;
};
const compilers = {
  5: outside('typescript5', 'bin', 'tsc'),
  6: outside('typescript6', 'bin', 'tsc'),
  7: join(root, 'node_modules', 'typescript', 'bin', 'tsc'),
};
// The DOM library has WebGPU's types from TypeScript 6 on; @webgpu/types lean on that library, and contradict it from then on.
const forms = [
  { versions: [5, 6, 7], module: 'nodenext', moduleResolution: 'nodenext', types: [] },
  { versions: [5, 6, 7], module: 'esnext', moduleResolution: 'bundler', types: [], lib: ['es2022'] },
  { versions: [5], module: 'nodenext', moduleResolution: 'nodenext', types: ['@webgpu/types'] },
];
test('declarations are sound and there: TypeScript 5.9, 6 and 7, with and without DOM and types of WebGPU', async () => {
  const runs = forms.flatMap(({ versions, ...own }) => versions.map(version => ({ version, own })));
  for (const [i, { version, own }] of runs.entries()) {
    const tsc = compilers[version as 5];
    if (!tsc) continue;
    const project = join(folder.path, `types${i}`);
    mkdirSync(project);
    writeFileSync(join(project, 'program.ts'), program);
    const strict = { strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false };
    const compilerOptions = { target: 'es2022', noEmit: true, ...strict, ...own };
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['program.ts'] }));
    await mustRun(project, process.execPath, [tsc, '-p', '.']);
  }
  if (!compilers[5] || !compilers[6]) saySkipped('TypeScript 5.9 and 6: npm ci --prefix test/outside');
});

const ownSum = `
import { Device, prune } from 'rm-engine';
import { downloadF32, tensorFrom } from 'rm-engine/engine';
import { map } from 'rm-engine/kernels';
(async () => {
  const device = await Device.open();
  const x = tensorFrom(device, [1, 2]);
  map(device.recorder, 'x + 1', { x }, x);
  console.log(...(await downloadF32(x)), typeof prune);
  await device.close();
})();
`;

test('bundles of esbuild run, as ESM and as CommonJS, and Device alone begins with less than 30 kB', async () => {
  const esbuild = outside('esbuild', 'bin', 'esbuild');
  if (!esbuild) return saySkipped('bundles: npm ci --prefix test/outside');
  // Native code stays outside.
  const external = ['webgpu', 'tokenizers', 'pyodide'].map(name => `--external:${name}`);
  const bundle = (entry: string, ...args: string[]) =>
    mustRun(folder.path, process.execPath, [
      ...[
        esbuild,
        entry,
        '--bundle',
        '--minify',
        '--platform=node',
        '--log-level=error',
        ...external,
        ...args,
      ],
    ]);
  writeFileSync(join(folder.path, 'sum.mjs'), ownSum);
  for (const [format, ending] of [
    ['esm', 'mjs'],
    ['cjs', 'cjs'],
  ] as const) {
    // Where the native parts are found.
    const out = installed('rm-engine', `bundle.${ending}`);
    await bundle('sum.mjs', `--format=${format}`, `--outfile=${out}`);
    assert.is(await mustRun(folder.path, process.execPath, [out]), '2 3 function\n', format);
  }
  writeFileSync(join(folder.path, 'device.mjs'), "export { Device } from 'rm-engine/engine';");
  await bundle('device.mjs', '--splitting', '--format=esm', '--outdir=split', '--metafile=split.json');
  type Output = { bytes: number; imports: { path: string; kind: string; external?: boolean }[] };
  const { outputs }: { outputs: Record<string, Output> } = readJson(join(folder.path, 'split.json'));
  const loaded = new Set<string>();
  const load = (name: string): void => {
    if (loaded.has(name)) return;
    loaded.add(name);
    for (const { path, kind, external } of outputs[name]!.imports)
      if (kind === 'import-statement' && !external) load(path);
  };
  load('split/device.js');
  const bytes = [...loaded].reduce((sum, name) => sum + outputs[name]!.bytes, 0);
  assert.ok(bytes < 30_000, `${bytes} bytes`);
});

for (const [name, program, args] of [
  ['Bun', outside('@oven', `bun-${process.platform}-${process.arch}`, 'bin', 'bun'), []],
  [
    'Deno',
    outside('@deno', `${process.platform}-${process.arch}-glibc`, 'deno'),
    ['run', '-A', '--node-modules-dir=manual'],
  ],
] as const) {
  test(`${name} runs it`, async () => {
    if (!program) return saySkipped(`${name}: npm ci --prefix test/outside`);
    writeFileSync(join(folder.path, 'sum.mjs'), ownSum);
    assert.is(await mustRun(folder.path, program, [...args, 'sum.mjs']), '2 3 function\n');
  });
}

test('what is not installed is asked for by name where it is wanted', async () => {
  const module = (path: string) => import(pathToFileURL(installed('rm-engine', 'dist', path)).href);
  const { figures } = await module('replaceme/report/page/figure.js');
  const figure = { id: 'a', title: 'A', description: 'b', spec: {}, table: '' };
  assert.match(`${await figures([figure])}`, /npm install vega@\d/);
  const { svgDocument } = await module('replaceme/report/page/drawing.js');
  const failure = async (work: Promise<unknown>): Promise<{ fix: string }> => {
    const thrown = await work.then(
      () => undefined,
      error => error,
    );
    assert.ok(thrown, 'nothing was thrown');
    return thrown;
  };
  assert.match((await failure(svgDocument({}, figure))).fix, /npm install vega@\d/);
  const { loadHubClient } = await module('model/hub/client.js');
  assert.match((await failure(loadHubClient())).fix, /npm install @huggingface\/hub@\d/);
});

test.run();
