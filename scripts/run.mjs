// The npm scripts, written in Node so that they work on Linux, macOS and Windows. Each installs missing packages, builds,
// then does its job.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { removeShrinkwrap, writeShrinkwrap } from './shrinkwrap.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const [job, ...args] = process.argv.slice(2);

/** Runs a program in the project's root with inherited stdio; exits with its code if it fails. */
function run(command, commandArgs, options = {}) {
  const result = spawnSync(command, commandArgs, { cwd: root, stdio: 'inherit', ...options });
  if (result.error) throw result.error;
  if (result.status !== 0) process.exit(result.status ?? 1);
}

const node = (file, ...rest) => run(process.execPath, ['--enable-source-maps', join(root, file), ...rest]);

/** Runs `npm ci` unless node_modules matches package-lock.json and has the package `probe`. */
function install(folder = root, probe = 'typescript', runOrTry = run) {
  // Left by an `npm pack` that was interrupted: npm would obey it.
  removeShrinkwrap(folder);
  const installed = join(folder, 'node_modules/.package-lock.json');
  if (existsSync(installed) && existsSync(join(folder, 'node_modules', probe))) {
    const versions = file =>
      Object.entries(JSON.parse(readFileSync(join(folder, file), 'utf8')).packages)
        .filter(([path, entry]) => path && !entry.optional)
        .map(([path, entry]) => `${path}@${entry.version}`)
        .sort()
        .join();
    if (versions('package-lock.json') === versions('node_modules/.package-lock.json')) return;
  }
  // npm prints to stderr: stdout belongs to the job.
  runOrTry('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: folder,
    stdio: ['ignore', 2, 'inherit'],
    shell: process.platform === 'win32',
  });
}

function build() {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.json')], {
    stdio: ['ignore', 2, 'inherit'],
  });
  run(process.execPath, [join(root, 'scripts/python.mjs')]);
}

const biome = (...rest) =>
  run(process.execPath, [join(root, 'node_modules/@biomejs/biome/bin/biome'), ...rest]);

const jobs = {
  build: () => {
    install();
    build();
  },
  // Before and after `npm pack` and `npm publish`.
  prepack: () => {
    install();
    build();
    writeShrinkwrap(root);
  },
  postpack: () => removeShrinkwrap(root),
  test: () => {
    install();
    build();
    node('scripts/test.mjs', ...args);
  },
  // Random inputs for everything that is read; test/fuzz/main.ts.
  fuzz: () => {
    install();
    build();
    node('dist/test/fuzz/main.js', ...args);
  },
  demo: () => {
    install();
    build();
    node('dist/examples/demo.js', ...args);
  },
  bench: () => {
    install();
    build();
    if (args[0] === 'host') node('dist/bench/host.js');
    else if (args[0] === 'peers' || args[0] === 'tokenizers') {
      // The benchmark lists packages that cannot be installed as skipped.
      if (!args.includes('--help')) install(join(root, 'bench/peers'), 'onnxruntime-node', spawnSync);
      node(`dist/bench/peers/${args[0] === 'peers' ? 'main' : 'tokenizers'}.js`, ...args.slice(1));
    } else node('dist/cli/main.js', 'bench', ...(args.length ? args : ['kernels']));
  },
  // Writes the API documentation into out/api; fails if an export lacks a comment. Its tools are a package of their own.
  docs: () => {
    install();
    const folder = join(root, 'docs/api');
    install(folder);
    run(process.execPath, [join(folder, 'node_modules/typedoc/bin/typedoc'), ...args], { cwd: folder });
  },
  // docs/options.md and the recipes in docs/report.schema.json, from the tables of replaceme/options.
  'docs:options': () => {
    install();
    build();
    node('scripts/options.mjs');
    biome('format', '--write', 'docs/report.schema.json');
  },
  size: () => {
    install();
    build();
    node('scripts/packageSize.mjs', ...args);
  },
  'gpu-bundle': () => {
    install();
    build();
    node('scripts/gpuBundle.mjs', ...args);
  },
  // The checkout's rm-engine; run `npm run build` before.
  cli: () => node('dist/cli/main.js', ...args),
  lint: () => {
    install();
    biome('check', '--error-on-warnings', ...args);
  },
  format: () => {
    install();
    biome('check', '--write', ...args);
  },
};

if (!jobs[job]) {
  console.error(`run.mjs: unknown job '${job}'. Known: ${Object.keys(jobs).join(', ')}`);
  process.exit(2);
}
jobs[job]();
