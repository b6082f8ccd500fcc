/** GPUs that a machine has and Vulkan does not show, on machines made of files. Needs no device. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { choiceWarnings } from '../../cli/device/adapterChoice.js';
import { type HiddenGpu, hiddenGpu, hostAt } from '../../engine/presentGpus.js';
import { addDriverFiles, vulkanDriverFiles } from '../../engine/vulkanFiles.js';
import { temporaryFolder } from '../support.js';

type Files = Readonly<Record<string, string>>;

/** What a machine of these files hides. */
function hiddenOn(
  files: Files,
  env: Record<string, string> = {},
  unusable: string[] = [],
): HiddenGpu | undefined {
  using folder = temporaryFolder();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(folder.path, dirname(path)), { recursive: true });
    writeFileSync(join(folder.path, path), text);
  }
  const host = hostAt(folder.path, { platform: 'linux', execPath: '/usr/bin/node', env });
  return hiddenGpu({ ...host, usable: path => !unusable.includes(path) && host.usable(path) });
}

function expectGpu(files: Files, evidence: RegExp, cure: RegExp, env = {}, unusable: string[] = []): void {
  const found = hiddenOn(files, env, unusable);
  assert.match(found?.evidence ?? 'nothing', evidence);
  assert.match(found!.cure, cure);
}

const version = (number: string, open = false) =>
  open
    ? `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  ${number}  Release Build  (dvs-builder@U16)\nGCC version: 12`
    : `NVRM version: NVIDIA UNIX x86_64 Kernel Module  ${number}  Sun May 12 19:39:15 UTC 2024\nGCC version: gcc 11.4.0`;

/** A machine with one NVIDIA card, without Vulkan. */
const nvidia = (model = 'NVIDIA A100-SXM4-80GB', number = '535.183.01'): Files => ({
  '/dev/nvidia0': '',
  '/dev/nvidiactl': '',
  '/proc/driver/nvidia/version': version(number),
  '/proc/driver/nvidia/gpus/0000:07:00.0/information': `Model: \t\t ${model}\nIRQ: 1\n`,
});
const ubuntu = { '/etc/os-release': 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n' };
const library = (number: string): Files => ({
  '/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.0': '',
  [`/usr/lib/x86_64-linux-gnu/libGLX_nvidia.so.${number}`]: '',
});
const icd = { '/usr/share/vulkan/icd.d/nvidia_icd.json': '{}' };
const loader = { '/usr/lib/x86_64-linux-gnu/libvulkan.so.1': '' };

test('NVIDIA: the package of this driver version and this distribution', () => {
  const desktop = { ...nvidia(), ...ubuntu, '/var/lib/dpkg/info/libnvidia-compute-535:amd64.list': '' };
  expectGpu(
    desktop,
    /A100-SXM4-80GB with driver 535\.183\.01/,
    /apt install libnvidia-gl-535 .*in version 535\.183\.01/,
  );
  const server = { ...nvidia(), ...ubuntu, '/var/lib/dpkg/info/libnvidia-compute-535-server:amd64.list': '' };
  expectGpu(server, /libGLX_nvidia/, /apt install libnvidia-gl-535-server in version 535\.183\.01/);
  const open = { ...nvidia(), ...ubuntu, '/proc/driver/nvidia/version': version('570.86.15', true) };
  expectGpu(
    open,
    /driver 570\.86\.15/,
    /libnvidia-gl-570 \(libnvidia-gl-570-server with the server driver\)/,
  );
  const on = (release: string) => ({ ...nvidia(), '/etc/os-release': release });
  expectGpu(on('ID=debian'), /A100/, /nvidia-vulkan-icd in version 535/);
  expectGpu(on('ID="rocky"\nID_LIKE="rhel centos fedora"'), /A100/, /dnf install nvidia-driver-libs/);
  expectGpu(on('ID=arch'), /A100/, /nvidia-utils/);
  expectGpu(on('ID="sles"\nID_LIKE="suse"'), /A100/, /nvidia-gl-G06/);
  expectGpu(on('ID=void'), /A100/, /--no-opengl-files/);
});

test('NVIDIA in containers: the flag that is missing', () => {
  const container = { ...nvidia(), ...ubuntu, '/.dockerenv': '' };
  expectGpu(
    container,
    /NVIDIA_DRIVER_CAPABILITIES does not name graphics \(it is not set\)/,
    /--gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility/,
  );
  const cuda = { NVIDIA_DRIVER_CAPABILITIES: 'compute,utility', KUBERNETES_SERVICE_HOST: '10.0.0.1' };
  expectGpu({ ...nvidia(), ...ubuntu }, /it is compute,utility/, /graphics/, cuda);
  expectGpu(container, /the host does not have it either/, /On the host.*libnvidia-gl-535-server/, {
    NVIDIA_DRIVER_CAPABILITIES: 'all',
  });
  const without = Object.fromEntries(Object.entries(container).filter(([path]) => path !== '/dev/nvidia0'));
  expectGpu(without, /no \/dev\/nvidia0/, /docker run --gpus all/);
});

test('NVIDIA: MIG slices, vGPU profiles, rights', () => {
  expectGpu(nvidia(), /MIG slice/, /-mig 0/, { NVIDIA_VISIBLE_DEVICES: 'MIG-4d5e' });
  expectGpu(
    { ...nvidia(), '/proc/driver/nvidia/capabilities/gpu0/mig/gi1/access': '' },
    /MIG slice/,
    /whole GPU/,
  );
  expectGpu(nvidia('NVIDIA A100-20C'), /vGPU profile of series C/, /series Q/);
  expectGpu({ ...nvidia('GRID T4-8Q'), ...ubuntu }, /not the Vulkan part/, /libnvidia-gl-535/);
  expectGpu({ ...nvidia(), ...library('535.183.01') }, /may not open \/dev\/nvidia0/, /usermod -aG/, {}, [
    '/dev/nvidia0',
  ]);
});

test('NVIDIA: another version of the library, no driver file, no loader', () => {
  expectGpu(
    { ...nvidia(), ...ubuntu, ...library('550.54.15') },
    /library is of version 550\.54\.15/,
    /one version: apt install libnvidia-gl-535/,
  );
  expectGpu({ ...nvidia(), ...library('535.183.01') }, /no driver file/, /nvidia_icd\.json/);
  expectGpu({ ...nvidia(), ...library('535.183.01'), ...icd }, /no Vulkan loader/, /libvulkan1/);
  expectGpu({ ...nvidia(), ...library('535.183.01'), ...icd, ...loader }, /shows no GPU/, /VK_LOADER_DEBUG/);
});

test('AMD, ROCm images, Intel, WSL2', () => {
  const node = (driver: string): Files => ({
    '/dev/dri/renderD128': '',
    '/sys/class/drm/renderD128/device/uevent': `DRIVER=${driver}\nPCI_CLASS=38000\n`,
  });
  const kfd = {
    '/dev/kfd': '',
    '/sys/class/kfd/kfd/topology/nodes/0/gpu_id': '0\n',
    '/sys/class/kfd/kfd/topology/nodes/1/gpu_id': '51110\n',
  };
  const lavapipe = { '/usr/share/vulkan/icd.d/lvp_icd.x86_64.json': '{}' };
  expectGpu(
    { ...node('amdgpu'), ...kfd, ...lavapipe, '/opt/rocm/bin': '' },
    /GPU by AMD.*ROCm comes without Vulkan/,
    /mesa-vulkan-drivers/,
  );
  expectGpu({ ...kfd, '/.dockerenv': '' }, /\/dev\/kfd/, /--device \/dev\/kfd --device \/dev\/dri/);
  expectGpu(
    { ...node('amdgpu'), '/usr/share/vulkan/icd.d/radeon_icd.x86_64.json': '{}' },
    /shows no GPU/,
    /Mesa may be too old/,
  );
  expectGpu(node('xe'), /GPU by Intel/, /mesa-vulkan-drivers/);
  expectGpu(node('i915'), /may not open it/, /usermod -aG render/, {}, ['/dev/dri/renderD128']);
  expectGpu({ ...node('i915'), '/run/.containerenv': '' }, /may not open it/, /--group-add render/, {}, [
    '/dev/dri/renderD128',
  ]);
  expectGpu({ '/dev/dxg': '', '/usr/lib/wsl/lib/libcuda.so.1': '' }, /WSL2/, /Windows itself/);
});

test('machines without a GPU go on: virtual graphics, drivers without a card, an empty machine', () => {
  assert.is(hiddenOn({}), undefined);
  for (const driver of [
    'virtio-pci',
    'vmwgfx',
    'bochs-drm',
    'qxl',
    'ast',
    'hyperv_drm',
    'simple-framebuffer',
    'vgem',
  ]) {
    const files = {
      '/dev/dri/renderD128': '',
      '/sys/class/drm/renderD128/device/uevent': `DRIVER=${driver}\n`,
    };
    assert.is(hiddenOn(files), undefined, driver);
  }
  assert.is(hiddenOn({ '/dev/dri/card0': '', '/dev/dri/renderD128': '' }), undefined, 'no driver is bound');
  assert.is(hiddenOn({ '/dev/kfd': '', '/sys/class/kfd/kfd/topology/nodes/0/gpu_id': '0' }), undefined);
  assert.is(hiddenOn({ '/dev/nvidiactl': '', '/proc/driver/nvidia/version': version('535.1') }), undefined);
  assert.is(hiddenOn({ '/dev/dxg': '' }), undefined, 'WSL2 without an NVIDIA driver in Windows');
});

test('files that may not be opened', () => {
  using folder = temporaryFolder();
  const host = hostAt(folder.path, { platform: 'linux', execPath: '', env: {} });
  writeFileSync(join(folder.path, 'device'), '');
  assert.ok(host.usable('/device'));
  assert.not(host.usable('/missing'));
  chmodSync(join(folder.path, 'device'), 0o000);
  if (process.getuid?.() !== 0) assert.not(host.usable('/device'));
});

test('driver files: where the loader looks, and /usr/local/nvidia/share', () => {
  using folder = temporaryFolder();
  const files = [
    ...['/usr/share', '/opt/data', '/usr/local/nvidia/share', '/home/me/.config', '/etc/xdg'].map(
      root => `${root}/vulkan/icd.d/driver.json`,
    ),
    ...['/own/extra.json', '/own/folder/a.json', '/own/folder/notes.txt'],
  ];
  for (const path of files) {
    mkdirSync(join(folder.path, dirname(path)), { recursive: true });
    writeFileSync(join(folder.path, path), '{}');
  }
  const at = (env: Record<string, string>) => hostAt(folder.path, { platform: 'linux', execPath: '', env });
  const found = (env: Record<string, string>) => vulkanDriverFiles(at(env));
  assert.equal(
    found({}).sort(),
    ['/etc/xdg', '/usr/local/nvidia/share', '/usr/share'].map(root => `${root}/vulkan/icd.d/driver.json`),
  );
  assert.ok(found({ XDG_DATA_DIRS: '/opt/data:/opt/none' }).includes('/opt/data/vulkan/icd.d/driver.json'));
  assert.ok(found({ HOME: '/home/me' }).includes('/home/me/.config/vulkan/icd.d/driver.json'));
  assert.equal(found({ VK_DRIVER_FILES: '/own/folder:/own/extra.json:/own/lost.json' }), [
    '/own/folder/a.json',
    '/own/extra.json',
  ]);
  assert.is(found({ VK_ADD_DRIVER_FILES: '/own/extra.json' })[0], '/own/extra.json');
  const env: NodeJS.ProcessEnv = {};
  assert.equal(addDriverFiles(env, at({})), ['/usr/local/nvidia/share/vulkan/icd.d/driver.json']);
  assert.is(env.VK_ADD_DRIVER_FILES, '/usr/local/nvidia/share/vulkan/icd.d/driver.json');
  assert.equal(addDriverFiles({ VK_DRIVER_FILES: '/a.json' }, at({})), []);
});

test('a software adapter is not among GPUs that could be meant', () => {
  const info = { kind: 'software', device: '', description: 'llvmpipe', vendor: 'mesa' } as const;
  assert.equal(choiceWarnings({ info, env: { CUDA_VISIBLE_DEVICES: '1' }, alike: 2, gpus: 2 }), []);
});

test.run();
