import type { AdapterInfo } from '../../engine/adapter.js';
import { isSoftware } from '../../engine/adapter.js';
import { type CardMemory, describeLimit } from '../../engine/cardMemory.js';
import type { DeviceFeatures } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import { formatBytes } from '../../engine/format.js';
import { type GpuHost, hiddenGpu } from '../../engine/presentGpus.js';
import type { ProgramTarget } from '../../engine/program.js';
import { reasonOf } from '../../engine/reasons.js';
import { vulkanDriverFiles } from '../../engine/vulkanFiles.js';
import { explainBinaryFailure } from '../../engine/webgpu.js';
import { withoutCredentials } from '../../engine/withoutCredentials.js';
import type { Verdicts } from '../../kernels/shared/trustedVariants.js';
import { choiceWarnings } from '../device/adapterChoice.js';
import type { AdapterListing } from './adapterListing.js';

export type Status = 'ok' | 'warn' | 'fail' | 'skip';

/** The result of a probe: the evidence, and for a warning or a failure what to do. */
export interface Finding {
  readonly id: string;
  readonly status: Status;
  readonly evidence: string;
  readonly cure?: string;
}

/** The parts of an open device that the probes use. */
export interface ProbedDevice {
  readonly info: AdapterInfo;
  readonly features: DeviceFeatures;
  readonly limits: Readonly<
    Record<
      | 'maxBufferSize'
      | 'maxStorageBufferBindingSize'
      | 'maxComputeInvocationsPerWorkgroup'
      | 'maxComputeWorkgroupStorageSize',
      number
    >
  >;
  /** How the device's programs do exact arithmetic. @throws RmError SELF_TEST_FAILED */
  selfTest(): Promise<ProgramTarget['exact']>;
  /** Normalised error of a small matrix product against the host. */
  multiply(): Promise<number>;
  /** The card's memory; undefined where nothing tells. */
  readonly card: CardMemory | undefined;
  /** What is known of the kernel variants here. */
  verdicts(): Promise<Verdicts | undefined>;
  close(): Promise<void>;
}

/** A machine as the probes see it; tests make up their own. */
export interface DoctorContext extends GpuHost {
  readonly arch: string;
  readonly nodeVersion: string;
  /** Advice on getting an adapter on this platform. */
  readonly advice: string;
  readonly cacheFolder: string;
  /** The user's home folder: findings write it as ~, because people paste them into reports. */
  readonly home: string;
  /** Loads the binary of the webgpu package. */
  loadBinary(): Promise<void>;
  bundledDriver(): { readonly version: string } | undefined;
  listAdapters(): Promise<AdapterListing>;
  /** Whether the webgpu package has Microsoft's new shader compiler; only asked on Windows. */
  hasNewCompiler(): boolean;
  openDevice(): Promise<ProbedDevice>;
  /** Creates the folder if needed, then writes and removes a file in it. @throws Error if that fails. */
  tryWrite(folder: string): void;
  freeMemory(): number;
}

interface Probe {
  readonly id: string;
  run(context: DoctorContext, state: State): Promise<Omit<Finding, 'id'>> | Omit<Finding, 'id'>;
}

/** Results of earlier probes that later ones need. */
interface State {
  binaryLoads: boolean;
  adapters?: AdapterListing;
  device?: ProbedDevice;
}

const ok = (evidence: string) => ({ status: 'ok', evidence }) as const;
const warn = (evidence: string, cure: string) => ({ status: 'warn', evidence, cure }) as const;
const fail = (evidence: string, cure: string) => ({ status: 'fail', evidence, cure }) as const;
const skip = (evidence: string) => ({ status: 'skip', evidence }) as const;

const OLDEST_NODE = 20;
const LITTLE_MEMORY = 2 * 2 ** 30;
const MATMUL_TOLERANCE = 1e-6;

const libraryFolders = (env: DoctorContext['env']): string[] => [
  ...(env.LD_LIBRARY_PATH ?? '').split(':').filter(Boolean),
  ...['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib', '/usr/local/lib'],
];

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

const device: Probe = {
  id: 'device',
  run: async (context, state) => {
    if (!state.binaryLoads) return skip('needs the webgpu binary');
    if (state.adapters?.crashed) return skip('the driver crashes');
    state.device = await context.openDevice();
    const { info, card } = state.device;
    const { kind } = info;
    // Mesa's description names the driver only.
    // WebGPU writes a device's name in small letters with hyphens.
    const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
    const name = state.adapters?.names.find(one => plain(one) === plain(info.device)) ?? info.device;
    const description =
      name && !info.description.includes(name) ? `${name}, ${info.description}` : info.description;
    const gpus = (state.adapters?.names ?? []).filter(name => !isSoftware(name));
    const most = Math.max(1, ...gpus.map(name => gpus.filter(other => other === name).length));
    const [warning] = choiceWarnings({
      ...{ info, env: context.env, gpus: gpus.length },
      ...{ alike: card?.alike ?? most, address: card?.address },
    });
    if (warning) return warn(`${description}; ${warning}`, 'Name the adapter that you mean: --adapter NAME.');
    if (kind === 'gpu') return ok(description);
    return warn(`${description}: a software adapter; everything works, but slowly`, context.advice);
  },
};

const limits: Probe = {
  id: 'limits',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    const { limits } = device;
    return ok(
      `buffers of ${formatBytes(limits.maxBufferSize)}, bindings of ${formatBytes(limits.maxStorageBufferBindingSize)}, ` +
        `${limits.maxComputeInvocationsPerWorkgroup} invocations and ` +
        `${formatBytes(limits.maxComputeWorkgroupStorageSize)} of memory per workgroup`,
    );
  },
};

const features: Probe = {
  id: 'features',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    const { f16, subgroups, timestamps } = device.features;
    const { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs } = device.info;
    const matrices = subgroupMatrixConfigs.map(
      ({ component, result, m, n, k }) => `${component} -> ${result} ${m}x${n}x${k}`,
    );
    const size =
      subgroupMinSize === subgroupMaxSize ? subgroupMinSize : `${subgroupMinSize} to ${subgroupMaxSize}`;
    return ok(
      [
        `shader-f16: ${f16 ? 'yes' : 'no'}`,
        `subgroups: ${subgroups ? `yes, of ${size}` : 'no'}`,
        `timestamp-query: ${timestamps ? 'yes' : 'no (bench uses the wall clock, --profile is unavailable)'}`,
        `matrix units: ${matrices.join('; ') || 'none'}`,
      ].join(', '),
    );
  },
};

const selfTest: Probe = {
  id: 'self-test',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const exact = await device.selfTest();
    if (exact === 'float') return ok('arithmetic is exact wherever the kernels rely on it');
    return warn(
      'the driver changes float arithmetic that must be exact; rm-engine uses integers instead, which is slower',
      'Update the graphics driver, or choose another adapter with --adapter.',
    );
  },
};

const matmul: Probe = {
  id: 'matmul',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const error = await device.multiply();
    const evidence = `normalised error of a small matrix product: ${error.toExponential(1)}`;
    // NaN must fail too.
    if (error <= MATMUL_TOLERANCE) return ok(evidence);
    return fail(evidence, 'Update the graphics driver, or choose another adapter with --adapter.');
  },
};

const variants: Probe = {
  id: 'variants',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const verdicts = await device.verdicts();
    const wrong = Object.entries(verdicts?.wrong ?? {});
    if (wrong.length > 0)
      return warn(
        `wrong on this device and not used: ${wrong.map(([variant, found]) => `${variant} (${found})`).join('; ')}`,
        'Please report it with the output of: rm-engine doctor --json',
      );
    const { length } = verdicts?.right ?? [];
    if (length === 0) return skip('no program of a kernel variant has been compared with the host yet');
    return ok(`${length} programs of kernel variants compute what the host computes`);
  },
};

const cardMemory: Probe = {
  id: 'card-memory',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    if (device.info.kind === 'software') return skip('a software adapter uses that of the host');
    if (device.card) return ok(describeLimit(device.card));
    return warn(
      'nothing says how much memory the GPU has',
      'Give --memory-limit, so that a run fits the GPU.',
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

export const probes: readonly Probe[] = [
  ...[node, binary, loader, drivers, bundled, adapters, gpu, compiler],
  ...[device, limits, features, selfTest, matmul, variants, cardMemory, cache, memory],
];

/** A text as people may paste it into a report: with the home folder written as ~, and no secret of a URL. */
const toBePasted = (text: string, home: string): string =>
  withoutCredentials(home.length > 1 ? text.replaceAll(home, '~') : text);

/** Runs all probes in order; a probe that throws has failed. */
export async function examine(context: DoctorContext): Promise<Finding[]> {
  const state: State = { binaryLoads: false };
  const findings: Finding[] = [];
  try {
    for (const { id, run } of probes) {
      try {
        findings.push({ id, ...(await run(context, state)) });
      } catch (error) {
        const cure =
          error instanceof RmError
            ? error.fix
            : 'Please report this with the output of: rm-engine doctor --json';
        findings.push({ id, ...fail(reasonOf(error), cure) });
      }
    }
  } finally {
    await state.device?.close();
  }
  return findings.map(finding => ({
    ...finding,
    evidence: toBePasted(finding.evidence, context.home),
    ...(finding.cure && { cure: toBePasted(finding.cure, context.home) }),
  }));
}
