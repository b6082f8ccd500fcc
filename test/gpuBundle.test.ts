// `npm run gpu-bundle`: what it packs runs gpu-check in a root that holds glibc, busybox and SwiftShader and nothing else,
// without a network. Fetches packages of Debian and npm. 26 s of processor time, half of it installing, half pruning.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { gpuCheckMarkdown } from '../bench/gpuCheck/markdown.js';
import type { GpuCheckReport } from '../bench/gpuCheck/report.js';
import { enableBundledDriver } from '../engine/softwareDriver.js';
import { mustRun, root, runIn } from './packed.js';
import { saySkipped, temporaryFolder } from './support.js';

/** Options by which `unshare` gives a process mounts and a network of its own here; undefined where it may not. */
const namespace = (): readonly string[] | undefined => {
  const own = ['--mount', '--net', '--pid', '--fork'];
  return [own, [...own, '--user', '--map-root-user']].find(
    options => spawnSync('unshare', [...options, 'chroot', '/', 'true']).status === 0,
  );
};

const glibc = [
  '/lib64/ld-linux-x86-64.so.2',
  ...['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'librt.so.1'].map(
    name => `/lib/x86_64-linux-gnu/${name}`,
  ),
];
const driverFiles = '/usr/share/vulkan/icd.d';
const devices = ['null', 'zero', 'urandom'];

/** Fills the folder `bare`. @returns false where Debian's busybox cannot be had. */
async function makeRoot(bare: string, scratch: string): Promise<boolean> {
  const apt = ['-o', 'APT::Sandbox::User=root', 'download', '-qq', 'busybox-static'];
  const fetched = await runIn(scratch, 'apt-get', apt).catch(() => undefined);
  if (fetched?.status !== 0) return false;
  const [deb] = readdirSync(scratch);
  await mustRun(scratch, 'dpkg', ['-x', deb!, 'busybox']);
  for (const name of ['bin', 'dev', 'proc', 'tmp', 'root', driverFiles])
    mkdirSync(join(bare, name), { recursive: true });
  cpSync(join(scratch, 'busybox/bin/busybox'), join(bare, 'bin/busybox'));
  for (const name of ['sh', 'basename', 'dirname', 'ln', 'mktemp', 'rm'])
    symlinkSync('busybox', join(bare, 'bin', name));
  for (const path of glibc) cpSync(path, join(bare, path), { dereference: true });
  for (const name of devices) writeFileSync(join(bare, 'dev', name), '');
  assert.ok(enableBundledDriver());
  const manifest = process.env.VK_DRIVER_FILES!;
  const driver = 'libvk_swiftshader.so';
  cpSync(join(dirname(manifest), driver), join(bare, driver));
  const { ICD, ...rest } = JSON.parse(readFileSync(manifest, 'utf8'));
  const moved = JSON.stringify({ ...rest, ICD: { ...ICD, library_path: `/${driver}` } });
  writeFileSync(join(bare, driverFiles, 'swiftshader.json'), moved);
  return true;
}

/** Mounts what every machine has, then leaves all else behind, variables too. */
const enter = `bare=$1; shift
for name in ${devices.join(' ')}; do mount --bind "/dev/$name" "$bare/dev/$name" || exit; done
mount -t proc proc "$bare/proc" || exit
exec env -i PATH=/bin HOME=/root "$(command -v chroot)" "$bare" "$@"`;

test('the bundle checks a bare machine', async () => {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return saySkipped('the bundle is for x64 Linux');
  const options = namespace();
  if (!options) return saySkipped('no chroot and no namespaces for this user: the bundle is not run');
  using folder = temporaryFolder();
  const [scratch, bare] = [join(folder.path, 'scratch'), join(folder.path, 'bare')];
  mkdirSync(scratch);
  if (!(await makeRoot(bare, scratch))) return saySkipped('no packages of Debian: the bundle is not made');
  await mustRun(root, process.execPath, ['scripts/gpuBundle.mjs', join(bare, 'rm-engine-gpu')]);
  const check = 'gpu-check --allow-software --out /check --budget 30 --steps environment solve prune stress';
  const { status, stdout, stderr } = await runIn(folder.path, 'unshare', [
    ...[...options, 'sh', '-c', enter, 'sh', bare],
    ...['/rm-engine-gpu/rm-engine', ...check.split(' ')],
  ]);
  assert.is(status, 0, stdout + stderr);
  const report: GpuCheckReport = JSON.parse(readFileSync(join(bare, 'check/gpu-check.json'), 'utf8'));
  assert.match(report.adapter!.description, /SwiftShader/);
  assert.is(stdout, gpuCheckMarkdown(report));
  // A busy machine has no time for all.
  const ended = report.steps.map(step => step.status);
  assert.match(ended.join(' '), /^done (done|cut) (done|cut|skipped) (done|cut|skipped)$/);
  assert.not.match(stderr, /ldconfig|not found/);
  assert.equal(readdirSync(join(bare, 'tmp')), [], 'nothing is left');
});

test.run();
