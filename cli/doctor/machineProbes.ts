import { isSoftware } from '../../engine/adapterInfo.js';
import { formatBytes } from '../../engine/format.js';
import { hiddenGpu, libraryFolders } from '../../engine/presentGpus.js';
import { reasonOf } from '../../engine/reasons.js';
import { vulkanDriverFiles } from '../../engine/vulkanFiles.js';
import { explainBinaryFailure } from '../../engine/webgpuFailure.js';
import { type DoctorContext, fail, ok, type Probe, skip, warn } from './probe.js';

const OLDEST_NODE = 20;
const LITTLE_MEMORY = 2 * 2 ** 30;

/** A missing part of Vulkan: a failure, or a warning if the bundled driver brings its own. */
const missing = (context: DoctorContext, evidence: string, cure: string) =>
  context.bundledDriver() ? warn(`${evidence}; the bundled driver will be used`, cure) : fail(evidence, cure);

const node: Probe = {
  id: 'node',
  run: ({ nodeVersion, platform, arch, execPath, env }) => {
    const evidence = `Node ${nodeVersion} on ${platform} ${arch}`;
    const major = Number.parseInt(nodeVersion.replace(/^v/, ''), 10);
    if (major >= OLDEST_NODE && platform === 'linux' && (execPath.startsWith('/snap/') || env.SNAP))
      return warn(
        `${evidence}, from Snap, which brings libraries of its own: drivers of the system may not load`,
        'Install Node from nodejs.org or by nvm, and remove that of Snap: snap remove node',
      );
    return major >= OLDEST_NODE ? ok(evidence) : fail(evidence, `Install Node ${OLDEST_NODE} or newer.`);
  },
};

const binary: Probe = {
  id: 'webgpu',
  run: async (context, state) => {
    try {
      await context.loadBinary();
    } catch (error) {
      const { reason, cure } = explainBinaryFailure((error as Error).message);
      return fail(reason, cure);
    }
    state.binaryLoads = true;
    return ok('the binary of the webgpu package loads');
  },
};

const loader: Probe = {
  id: 'vulkan-loader',
  run: context => {
    if (context.platform !== 'linux') return skip('only used on Linux');
    const library = libraryFolders(context.env)
      .map(folder => `${folder}/libvulkan.so.1`)
      .find(context.exists);
    if (library) return ok(library);
    const evidence = 'libvulkan.so.1 was not found in the usual places';
    const cure = 'Install libvulkan1 (Debian, Ubuntu) or vulkan-loader (Fedora, Arch).';
    return missing(context, evidence, cure);
  },
};

const drivers: Probe = {
  id: 'vulkan-drivers',
  run: context => {
    if (context.platform !== 'linux') return skip('only used on Linux');
    const files = vulkanDriverFiles(context);
    if (files.length > 0) return ok(files.join(', '));
    const configured = context.env.VK_DRIVER_FILES ?? context.env.VK_ICD_FILENAMES;
    const evidence = configured
      ? `none of ${configured} exists`
      : 'no driver files in /usr/share/vulkan/icd.d or /etc/vulkan/icd.d';
    const cure = configured ? 'Correct or unset VK_DRIVER_FILES (or VK_ICD_FILENAMES).' : context.advice;
    return missing(context, evidence, cure);
  },
};

const bundled: Probe = {
  id: 'bundled-driver',
  run: context => {
    const driver = context.bundledDriver();
    if (driver) return ok(`SwiftShader of @sparticuz/chromium ${driver.version} is installed`);
    return skip(
      'not installed; needed only without any other driver (npm install @sparticuz/chromium@147.0.0)',
    );
  },
};

const adapters: Probe = {
  id: 'adapters',
  run: async (context, state) => {
    if (!state.binaryLoads) return skip('needs the webgpu binary');
    state.adapters = await context.listAdapters();
    const { names, crashed } = state.adapters;
    if (crashed)
      return fail(
        `a driver crashed or hung: ${crashed}${names.length > 0 ? ` (adapters: ${names.join(', ')})` : ''}`,
        'Update the graphics driver, or choose another adapter with --adapter; please report it with: rm-engine doctor --json',
      );
    if (names.length > 0) return ok(names.join(', '));
    if (context.bundledDriver()) return warn('none; the bundled driver will be used', context.advice);
    return fail('none', context.advice);
  },
};

/** Whether the GPUs of the machine are seen by Vulkan. */
const gpu: Probe = {
  id: 'gpu',
  run: (context, { adapters }) => {
    const hardware = adapters?.names.find(name => !isSoftware(name));
    if (hardware) return ok(hardware);
    const hidden = hiddenGpu(context);
    return hidden ? fail(hidden.evidence, hidden.cure) : skip('nothing on this machine tells of a GPU');
  },
};

/** Windows compiles shaders by Microsoft's DXC, or without it by FXC, which takes many times as long. */
const compiler: Probe = {
  id: 'compiler',
  run: ({ platform, hasNewCompiler }) => {
    if (platform !== 'win32') return skip('only used on Windows');
    if (hasNewCompiler()) return ok('shaders are compiled by DXC (dxcompiler.dll)');
    return warn(
      'shaders are compiled by FXC, some of which takes half a minute each: dxcompiler.dll is missing',
      'Run npm install again: the webgpu package brings dxcompiler.dll; a virus scanner may have removed it.',
    );
  },
};

const cache: Probe = {
  id: 'cache',
  run: ({ cacheFolder, tryWrite }) => {
    try {
      tryWrite(cacheFolder);
      return ok(`${cacheFolder} is writable`);
    } catch (error) {
      return warn(
        `${cacheFolder}: cannot be written: ${reasonOf(error)}`,
        'Make it writable, or set XDG_CACHE_HOME. Only the bundled driver needs it; without it nothing measured is remembered.',
      );
    }
  },
};

const memory: Probe = {
  id: 'memory',
  run: ({ freeMemory }) => {
    const free = freeMemory();
    const evidence = `${formatBytes(free)} of host memory free`;
    return free < LITTLE_MEMORY
      ? warn(evidence, 'Close other programs, or use a smaller model.')
      : ok(evidence);
  },
};

/** What a machine needs before a device can be opened. */
export const beforeDevice: readonly Probe[] = [
  ...[node, binary, loader, drivers, bundled, adapters, gpu, compiler],
];

/** What else the work needs of it. */
export const besidesDevice: readonly Probe[] = [cache, memory];
