import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { type VulkanHost, vulkanDriverFiles } from './vulkanFiles.js';

/** The machine as its files describe it; tests make up their own. */
export interface GpuHost extends VulkanHost {
  readonly platform: string;
  /** The program of Node. */
  readonly execPath: string;
  /** A file's text; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** Whether this user may read and write a device file. */
  usable(path: string): boolean;
}

/** The machine whose root folder is `root`. */
export const hostAt = (
  root: string,
  { env, platform, execPath }: Pick<GpuHost, 'env' | 'platform' | 'execPath'> = process,
): GpuHost => ({
  ...{ env, platform, execPath },
  exists: path => existsSync(root + path),
  list: folder => {
    try {
      return readdirSync(root + folder).sort();
    } catch {
      return [];
    }
  },
  read: path => {
    try {
      return readFileSync(root + path, 'utf8');
    } catch {
      return undefined;
    }
  },
  usable: path => {
    try {
      accessSync(root + path, constants.R_OK | constants.W_OK);
      return true;
    } catch {
      return false;
    }
  },
});

/** A GPU that the machine has but Vulkan does not show, and what to do. */
export interface HiddenGpu {
  /** What says that there is a GPU, and what its driver lacks. */
  readonly evidence: string;
  readonly cure: string;
}

/**
 * The GPU that device files and kernel drivers of a Linux machine tell of, and why Vulkan does not show it; undefined where
 * they tell of none. Graphics of virtual machines, which compute nothing, do not count. Ask only where no GPU was opened.
 */
export function hiddenGpu(host: GpuHost): HiddenGpu | undefined {
  if (host.platform !== 'linux') return undefined;
  return hiddenNvidia(host) ?? hiddenInWsl(host) ?? hiddenOther(host);
}

/** Folders in which a Linux machine has its libraries. */
export const libraryFolders = (env: GpuHost['env']): string[] => [
  ...(env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean),
  ...['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib', '/usr/local/lib'],
  ...['/usr/local/nvidia/lib64', '/usr/local/nvidia/lib', '/run/opengl-driver/lib', '/usr/lib/wsl/lib'],
];

const inContainer = ({ env, exists, read }: GpuHost): boolean =>
  exists('/.dockerenv') ||
  exists('/run/.containerenv') ||
  env.KUBERNETES_SERVICE_HOST !== undefined ||
  env.container !== undefined ||
  /docker|containerd|kubepods|libpod|lxc/.test(read('/proc/1/cgroup') ?? '');

/** Files of one name in the folders of libraries. */
const librariesLike = ({ list, env }: GpuHost, pattern: RegExp): string[] =>
  libraryFolders(env).flatMap(folder =>
    list(folder)
      .filter(name => pattern.test(name))
      .map(name => `${folder}/${name}`),
  );

/** Identifiers of the distribution and those it derives from, e.g. "ubuntu debian". */
const distribution = ({ read }: GpuHost): string => {
  const release = read('/etc/os-release') ?? '';
  const field = (name: string) => new RegExp(`^${name}="?([^"\n]*)`, 'm').exec(release)?.[1] ?? '';
  return `${field('ID')} ${field('ID_LIKE')}`.toLowerCase();
};

/** How to install the Vulkan part of NVIDIA's driver in this version, with the packages of this distribution. */
function nvidiaPackage(host: GpuHost, version: string | undefined): string {
  const branch = version?.split('.')[0];
  const exactly = version
    ? ` in version ${version}, that of the kernel module`
    : ' in the version of the kernel module';
  const system = distribution(host);
  if (/ubuntu/.test(system)) {
    if (!branch) return 'apt install libnvidia-gl-NNN, NNN as in: cat /proc/driver/nvidia/version';
    // Packages of servers and desktops do not mix.
    const server = host.list('/var/lib/dpkg/info').some(name => name.includes(`-${branch}-server`));
    const other = server ? '' : ` (libnvidia-gl-${branch}-server with the server driver)`;
    return `apt install libnvidia-gl-${branch}${server ? '-server' : ''}${other}${exactly}`;
  }
  if (/debian/.test(system)) return `apt install nvidia-vulkan-icd${exactly}`;
  if (/rhel|fedora|centos|rocky|almalinux|amzn/.test(system))
    return `dnf install nvidia-driver-libs (RPM Fusion: xorg-x11-drv-nvidia-libs)${exactly}`;
  if (/suse/.test(system)) return `zypper install nvidia-gl-G06${exactly}`;
  if (/arch/.test(system)) return `pacman -S nvidia-utils${exactly}`;
  return `install the GL and Vulkan libraries of NVIDIA's driver${exactly} (its installer leaves them out with --no-opengl-files)`;
}

const LOADER =
  'libvulkan1 libegl1 libgl1 (Debian, Ubuntu) or vulkan-loader libglvnd-egl libglvnd-glx (Fedora, RHEL)';

function hiddenNvidia(host: GpuHost): HiddenGpu | undefined {
  const { exists, list, read, env } = host;
  const module = read('/proc/driver/nvidia/version');
  const cards = list('/dev').filter(name => /^nvidia\d+$/.test(name));
  const known = list('/proc/driver/nvidia/gpus');
  if (cards.length === 0 && known.length === 0) return undefined;
  const version = /Kernel Module.*?\s(\d{3,}(?:\.\d+)+)/.exec(module ?? '')?.[1];
  const models = known.map(
    address => /^Model:\s*(.*)$/m.exec(read(`/proc/driver/nvidia/gpus/${address}/information`) ?? '')?.[1],
  );
  const name = models.find(Boolean) ?? 'an NVIDIA GPU';
  const has = `this machine has ${name}${version ? ` with driver ${version}` : ''}`;
  const container = inContainer(host);
  if (cards.length === 0) {
    return {
      evidence: `${has}, but no /dev/nvidia0`,
      cure: container
        ? 'Give the container the GPU: docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=all'
        : 'Create the device files: nvidia-modprobe -c 0 -u (as root), or run nvidia-smi once.',
    };
  }
  const device = `/dev/${cards[0]}`;
  if (isSlice(host))
    return {
      evidence: `${has}, of which this process has a MIG slice; NVIDIA's Vulkan does not run on slices`,
      cure: 'Use a whole GPU, or switch MIG off: nvidia-smi -i 0 -mig 0 (as root on the host).',
    };
  // A vGPU is named by its profile: "NVIDIA A100-20C" computes with CUDA alone, "GRID T4-8Q" has graphics.
  const profile = /-\d+([ABCQ])$/.exec(name)?.[1];
  if (profile && profile !== 'Q')
    return {
      evidence: `${has}: a vGPU profile of series ${profile}, which has no Vulkan`,
      cure: 'Ask for a vGPU profile of series Q (RTX Virtual Workstation), or for a GPU passed through.',
    };
  if (!host.usable(device))
    return {
      evidence: `${has}, but this user may not open ${device}`,
      cure: `Join the group that owns it (ls -l ${device}), usually video: usermod -aG video USER`,
    };
  const libraries = librariesLike(host, /^libGLX_nvidia\.so/);
  if (libraries.length === 0) {
    const evidence = `${has}, but not the Vulkan part of its driver (libGLX_nvidia.so.0)`;
    if (!container) return { evidence, cure: `Run: ${nvidiaPackage(host, version)}; and install ${LOADER}.` };
    const asked = env.NVIDIA_DRIVER_CAPABILITIES ?? '';
    if (!/\b(all|graphics)\b/.test(asked)) {
      const set = asked ? `it is ${asked}` : 'it is not set';
      return {
        evidence: `${evidence}: NVIDIA_DRIVER_CAPABILITIES does not name graphics (${set})`,
        cure: `Start the container with --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility, and install in it ${LOADER}.`,
      };
    }
    return {
      evidence: `${evidence}, although the container asks for it: the host does not have it either`,
      cure: `On the host, not in the container: ${nvidiaPackage({ ...host, read: path => (path === '/etc/os-release' ? undefined : read(path)) }, version)}; on Ubuntu that is libnvidia-gl-${version?.split('.')[0] ?? 'NNN'}-server or libnvidia-gl-${version?.split('.')[0] ?? 'NNN'}.`,
    };
  }
  const versions = libraries.flatMap(path => /\.so\.(\d{3,}(?:\.\d+)+)$/.exec(path)?.[1] ?? []);
  if (version && versions.length > 0 && !versions.includes(version))
    return {
      evidence: `${has}, but its Vulkan library is of version ${versions.join(', ')}`,
      cure: `Libraries and kernel module must be of one version: ${nvidiaPackage(host, version)}; or restart the machine if the driver was updated.`,
    };
  const files = vulkanDriverFiles(host);
  if (!files.some(path => /nvidia/i.test(path)))
    return {
      evidence: `${has} and its Vulkan library, but no driver file for the Vulkan loader (${files.join(', ') || 'none at all'})`,
      cure: `Write it: mkdir -p /etc/vulkan/icd.d && echo '{"file_format_version":"1.0.0","ICD":{"library_path":"libGLX_nvidia.so.0","api_version":"1.3.0"}}' > /etc/vulkan/icd.d/nvidia_icd.json`,
    };
  if (librariesLike(host, /^libvulkan\.so\.1/).length === 0)
    return { evidence: `${has}, but no Vulkan loader`, cure: `Install ${LOADER}.` };
  return {
    evidence: `${has} and its Vulkan driver, but the driver shows no GPU${exists('/.dockerenv') ? ' in this container' : ''}`,
    cure: `Install ${LOADER}, which it needs without a screen too; then look at what VK_LOADER_DEBUG=error,driver rm-engine doctor prints.`,
  };
}

/** Whether the GPU of this process is a part of one. */
const isSlice = ({ env, list }: GpuHost): boolean =>
  /^MIG-/.test(env.NVIDIA_VISIBLE_DEVICES ?? '') ||
  /^MIG-/.test(env.CUDA_VISIBLE_DEVICES ?? '') ||
  list('/proc/driver/nvidia/capabilities').some(
    gpu =>
      /^gpu\d+$/.test(gpu) &&
      list(`/proc/driver/nvidia/capabilities/${gpu}/mig`).some(name => /^gi\d+$/.test(name)),
  );

/** WSL2 has CUDA of the NVIDIA driver of Windows, but no Vulkan of it. */
function hiddenInWsl({ exists }: GpuHost): HiddenGpu | undefined {
  if (!exists('/dev/dxg') || !exists('/usr/lib/wsl/lib/libcuda.so.1')) return undefined;
  return {
    evidence: 'this is WSL2 on a machine with an NVIDIA GPU, for which WSL2 has no Vulkan driver',
    cure: 'Run rm-engine in Windows itself, with Node for Windows, where it uses Direct3D 12.',
  };
}

/** Kernel drivers of GPUs that Mesa has a Vulkan driver for. */
const mesaDrivers: Readonly<Record<string, string>> = {
  ...{ amdgpu: 'AMD', i915: 'Intel', xe: 'Intel', nouveau: 'NVIDIA (nouveau)', asahi: 'Apple' },
  ...{ msm: 'Qualcomm', panfrost: 'ARM', panthor: 'ARM', v3d: 'Broadcom' },
};

function hiddenOther(host: GpuHost): HiddenGpu | undefined {
  const { exists, list, read } = host;
  const container = inContainer(host);
  const nodes = list('/dev/dri').filter(name => /^renderD\d+$/.test(name));
  const driverOf = (node: string) =>
    /^DRIVER=(.*)$/m.exec(read(`/sys/class/drm/${node}/device/uevent`) ?? '')?.[1] ?? '';
  const node = nodes.find(name => Object.hasOwn(mesaDrivers, driverOf(name)));
  // The kernel makes /dev/kfd without a GPU too; its nodes say whether there is one.
  const computing = list('/sys/class/kfd/kfd/topology/nodes').some(
    one => Number(read(`/sys/class/kfd/kfd/topology/nodes/${one}/gpu_id`) ?? 0) > 0,
  );
  if (!node) {
    if (!exists('/dev/kfd') || !computing) return undefined;
    return {
      evidence: 'this machine has an AMD GPU (/dev/kfd), but no /dev/dri/renderD128',
      cure: container
        ? 'Give the container the device: docker run --device /dev/kfd --device /dev/dri --group-add video --group-add render'
        : 'Load the graphics part of amdgpu; it makes /dev/dri/renderD128.',
    };
  }
  const driver = driverOf(node);
  const has = `this machine has a GPU by ${mesaDrivers[driver]} (/dev/dri/${node}, driver ${driver})`;
  if (!host.usable(`/dev/dri/${node}`))
    return {
      evidence: `${has}, but this user may not open it`,
      cure: container
        ? 'Start the container with --group-add video --group-add render (or their numbers: ls -ln /dev/dri).'
        : 'Join the group render (and video): usermod -aG render,video USER, then log in again.',
    };
  const files = vulkanDriverFiles(host);
  const own = { amdgpu: /radeon|amd/i, i915: /intel/i, xe: /intel/i, nouveau: /nouveau/i }[driver];
  const rocm = exists('/opt/rocm') ? '; ROCm comes without Vulkan' : '';
  if (!files.some(path => (own ? own.test(path) : !/lvp|swiftshader/i.test(path))))
    return {
      evidence: `${has}, but no Vulkan driver for it (${files.join(', ') || 'no driver files'})${rocm}`,
      cure: 'Install Mesa 24 or newer: mesa-vulkan-drivers libvulkan1 (Debian 12: -t bookworm-backports), Fedora: mesa-vulkan-drivers vulkan-loader.',
    };
  return {
    evidence: `${has} and a Vulkan driver, but the driver shows no GPU`,
    cure: 'Its Mesa may be too old for Dawn, which needs 24, or the GPU may lack Vulkan 1.1: look at what vulkaninfo --summary prints.',
  };
}
