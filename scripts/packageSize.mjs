// Prints the size of the package: the tarball, the unpacked files by folder, and each dependency with its own dependencies.
//   npm run size
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const megabytes = bytes => `${(bytes / 1e6).toFixed(2)} MB`.padStart(10);

const { status, stdout } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
  cwd: root,
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
  shell: process.platform === 'win32',
});
if (status !== 0) process.exit(status ?? 1);
// npm 10 prints a list, npm 11 an object by name.
const [tarball] = Object.values(JSON.parse(stdout));
console.log(`${megabytes(tarball.size)}  tarball`);
console.log(`${megabytes(tarball.unpackedSize)}  unpacked, ${tarball.entryCount} files:`);
const folders = new Map();
for (const { path, size } of tarball.files) {
  const folder = path.split('/').slice(0, -1).slice(0, 2).join('/') || '.';
  folders.set(folder, (folders.get(folder) ?? 0) + size);
}
for (const [folder, size] of [...folders].sort(([, a], [, b]) => b - a))
  console.log(`${megabytes(size)}    ${folder}`);

const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
const own = 'node_modules/';

/** Bytes of a package's files, without nested packages. */
const sizeOf = folder =>
  readdirSync(join(root, folder), { withFileTypes: true })
    .filter(({ name }) => name !== 'node_modules')
    .map(entry =>
      entry.isDirectory() ? sizeOf(join(folder, entry.name)) : lstatSync(join(root, folder, entry.name)).size,
    )
    .reduce((sum, size) => sum + size, 0);

/** The path of package `name` as `from` resolves it: in its own node_modules or the nearest above. */
function find(name, from) {
  for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf(`/${own}`)))) {
    const path = at ? `${at}/${own}${name}` : own + name;
    if (packages[path]) return path;
    if (!at) return undefined;
  }
}

/** The package at `path` and all of its dependencies. */
function closure(path, seen = new Set()) {
  if (seen.has(path)) return seen;
  seen.add(path);
  for (const name of Object.keys(packages[path].dependencies ?? {})) {
    const dependency = find(name, path);
    if (dependency) closure(dependency, seen);
  }
  return seen;
}

const total = paths => [...paths].reduce((sum, path) => sum + sizeOf(path), 0);
const all = new Set();
const { dependencies, optionalDependencies = {} } = packages[''];
const installed = Object.keys(optionalDependencies).filter(name => existsSync(join(root, own, name)));
const rows = [...Object.keys(dependencies), ...installed].map(name => {
  const paths = closure(own + name);
  for (const path of paths) all.add(path);
  return {
    name: name in dependencies ? name : `${name} (optional)`,
    alone: sizeOf(own + name),
    bytes: total(paths),
    count: paths.size,
  };
});
console.log(
  `${megabytes(total(all))}  dependencies, ${all.size} packages (each row counts shared ones too):`,
);
for (const { name, alone, bytes, count } of rows.sort((a, b) => b.bytes - a.bytes)) {
  const others = count > 1 ? `, ${megabytes(alone).trim()} its own, ${count - 1} others it needs` : '';
  console.log(`${megabytes(bytes)}    ${name}${others}`);
}
