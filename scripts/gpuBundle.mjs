// Packs what a bare x64 Linux machine with an NVIDIA driver needs to run `rm-engine gpu-check` without a network: Node, the
// package as npm would install it, with its production dependencies, and the Vulkan loader with the libraries that NVIDIA's
// Vulkan driver links to. Needs Debian or Ubuntu (apt-get download, dpkg), binutils and xz.
//   npm run gpu-bundle [FILE.tar.xz | FOLDER]        default: .cache/rm-engine-gpu.tar.xz; a folder gets what would be packed
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const MOST_BYTES = 60 * 2 ** 20;
/** The loader, what NVIDIA's driver links to, and what Node and Dawn link to besides glibc. */
const PACKAGES =
  'libvulkan1 libegl1 libglvnd0 libopengl0 libgl1 libglx0 libgles2 libx11-6 libxext6 libxcb1 libxau6 libxdmcp6 libbsd0 libmd0 libstdc++6 libgcc-s1';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const out = resolve(process.argv[2] ?? join(root, '.cache/rm-engine-gpu.tar.xz'));

function run(command, args, options = {}) {
  const { status, error, stdout } = spawnSync(command, args, {
    stdio: ['ignore', options.capture ? 'pipe' : 2, 'inherit'],
    encoding: 'utf8',
    ...options,
  });
  if (error || status !== 0) {
    console.error(`gpu-bundle: ${command} ${args.join(' ')} failed${error ? `: ${error.message}` : ''}`);
    process.exit(1);
  }
  return stdout;
}

if (process.platform !== 'linux' || process.arch !== 'x64') {
  console.error('gpu-bundle: only on x64 Linux, whose Node goes into the bundle');
  process.exit(1);
}
const packs = out.endsWith('.tar.xz');
if (!packs && existsSync(out)) {
  console.error(`gpu-bundle: ${out} exists: name a new folder, or a file that ends with .tar.xz`);
  process.exit(1);
}
const stage = mkdtempSync(join(tmpdir(), 'rm-engine-bundle-'));
process.on('exit', () => rmSync(stage, { recursive: true, force: true }));
const bundle = join(stage, 'rm-engine-gpu');
const [app, libraries, debs] = ['app', 'lib', 'debs'].map(name =>
  join(name === 'debs' ? stage : bundle, name),
);
for (const folder of [app, libraries, debs]) mkdirSync(folder, { recursive: true });

// The package, as published. `npm ci` installs what its shrinkwrap names; a peer or an optional package is not needed.
const [{ filename }] = Object.values(
  JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', stage], {
      cwd: root,
      capture: true,
    }),
  ),
);
run('tar', ['-xzf', join(stage, filename), '--strip-components=1', '-C', app]);
copyFileSync(join(root, 'package-lock.json'), join(app, 'package-lock.json'));
rmSync(join(app, 'npm-shrinkwrap.json'), { force: true });
run(
  'npm',
  [
    'ci',
    '--omit=dev',
    '--omit=optional',
    '--omit=peer',
    '--ignore-scripts',
    '--prefer-offline',
    '--no-audit',
    '--no-fund',
    '--loglevel=error',
  ],
  { cwd: app },
);
const binaries = join(app, 'node_modules/webgpu/dist');
for (const name of readdirSync(binaries))
  if (/^(darwin|win32|linux)-/.test(name) && name !== 'linux-x64')
    rmSync(join(binaries, name), { recursive: true });

const tokenizers = join(app, 'node_modules/tokenizers');
for (const name of readdirSync(tokenizers))
  if (name.endsWith('.node') && name !== 'tokenizers.linux-x64-gnu.node') rmSync(join(tokenizers, name));

run('strip', ['-o', join(bundle, 'node'), realpathSync(process.execPath)]);
// As root apt would hand the download to another user, who may not write here.
run('apt-get', ['-o', 'APT::Sandbox::User=root', 'download', '-qq', ...PACKAGES.split(' ')], { cwd: debs });
for (const deb of readdirSync(debs)) run('dpkg', ['-x', join(debs, deb), join(stage, 'root')]);
const found = ['usr/lib', 'lib']
  .map(folder => join(stage, 'root', folder, 'x86_64-linux-gnu'))
  .filter(existsSync);
for (const folder of found)
  for (const name of readdirSync(folder))
    if (/\.so\.\d+$/.test(name)) copyFileSync(realpathSync(join(folder, name)), join(libraries, name));

// Of the libraries only those that the machine lacks are used: its own fit its driver.
writeFileSync(
  join(bundle, 'rm-engine'),
  `#!/bin/sh
# rm-engine with the Node and the libraries of this folder: ./rm-engine gpu-check
here=$(cd "$(dirname "$0")" && pwd)
missing=$(mktemp -d)
trap 'rm -rf "$missing"' EXIT
present=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null)
for library in "$here"/lib/*; do
  case "$present" in
    *"$(basename "$library") "*) ;;
    *) ln -s "$library" "$missing" ;;
  esac
done
LD_LIBRARY_PATH="$missing\${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" "$here/node" "$here/app/dist/cli/main.js" "$@"
`,
);
chmodSync(join(bundle, 'rm-engine'), 0o755);

mkdirSync(dirname(out), { recursive: true });
if (!packs) {
  cpSync(bundle, out, { recursive: true });
  console.log(`${out}: there: rm-engine gpu-check`);
  process.exit();
}
run('tar', ['-C', stage, '-cJf', out, '--owner=0', '--group=0', 'rm-engine-gpu'], {
  env: { ...process.env, XZ_OPT: '-T0 -9' },
});
const { size } = statSync(out);
console.log(
  `${out}: ${(size / 2 ** 20).toFixed(1)} MiB; there: tar -xJf it, then rm-engine-gpu/rm-engine gpu-check`,
);
if (size > MOST_BYTES) {
  console.error(`gpu-bundle: more than ${MOST_BYTES / 2 ** 20} MiB`);
  process.exit(1);
}
