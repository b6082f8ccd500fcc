import { type AdapterInfo, adapterInfo, isSoftware } from './adapterInfo.js';
import { RmError } from './errors.js';
import { type HiddenGpu, hiddenGpu, hostAt } from './presentGpus.js';
import { enableBundledDriver, hasVulkan } from './softwareDriver.js';
import { addDriverFiles, thisHost } from './vulkanFiles.js';
import { loadWebgpu } from './webgpu.js';

export interface OpenedAdapter {
  adapter: GPUAdapter;
  info: AdapterInfo;
}

/**
 * What becomes of an index of a program that is out of range: the driver ignores it or Dawn moves it into range, always the
 * latter, or nothing checks it.
 */
export type IndexChecks = 'driver' | 'clamp' | 'none';

/**
 * Instance toggles. shader-f16 is hidden on NVIDIA without vulkan_enable_f16_on_nvidia (crbug 42251215), subgroup
 * matrices need allow_unsafe_apis, and timestamps are rounded to 65 us unless timestamp_quantization is off.
 */
export const toggles = (checks: IndexChecks = 'driver'): string[] => [
  `enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia${checks === 'none' ? ',disable_robustness' : ''}`,
  `disable-dawn-features=timestamp_quantization${checks === 'clamp' ? ',vulkan_use_buffer_robust_access_2' : ''}`,
];

/** Linux requests Vulkan alone: Dawn's null backend accepts everything and computes nothing. */
const backend = process.platform === 'linux' ? ['backend=vulkan'] : [];

/**
 * Instances by Vulkan driver files and flags; an instance looks for drivers only once. They live as long as the process:
 * dawn.node crashes when V8 collects the object that create() returned while anything made from it is alive
 * (crbug 387965810).
 */
const instances = new Map<string, GPU>();

async function instance(checks: IndexChecks, ...flags: string[]): Promise<GPU> {
  const { create } = await loadWebgpu();
  const all = [...backend, ...toggles(checks), ...flags];
  const key = [process.env.VK_DRIVER_FILES, ...all].join(' ');
  let gpu = instances.get(key);
  if (!gpu) {
    gpu = create(all);
    instances.set(key, gpu);
  }
  return gpu;
}

/** Lists the names of all adapters that Dawn sees. Dawn prints them only in the error for an unknown name. */
export async function listAdapters(): Promise<string[]> {
  const lister = await instance('driver', 'adapter=__list__');
  try {
    await lister.requestAdapter();
    return [];
  } catch (error) {
    return [...String((error as Error).message).matchAll(/name: '([^']*)'/g)].map(match => match[1]!);
  }
}

async function request(checks: IndexChecks, ...flags: string[]): Promise<OpenedAdapter | undefined> {
  const gpu = await instance(checks, ...flags);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  return adapter ? { adapter, info: adapterInfo(adapter.info) } : undefined;
}

/**
 * Opens the first adapter whose name contains `query` (in any case). Without a query it prefers discrete to integrated
 * (Dawn's order for high-performance) to software. If no Vulkan driver is installed, it uses the software driver from
 * the npm package @sparticuz/chromium, if that is installed.
 *
 * @throws RmError ADAPTER_NONE, which lists the adapters and says how to get one.
 */
export async function openAdapter(query?: string, checks: IndexChecks = 'driver'): Promise<OpenedAdapter> {
  if (/swiftshader/i.test(query ?? '') || (process.platform === 'linux' && !hasVulkan()))
    enableBundledDriver();
  if (query) {
    const names = await listAdapters();
    const name = names.find(candidate => candidate.toLowerCase().includes(query.toLowerCase()));
    const opened = name && (await request(checks, `adapter=${name}`));
    if (opened) return opened;
    throw new RmError(
      'ADAPTER_NONE',
      `no adapter's name contains '${query}' (adapters: ${names.join(', ') || 'none'})`,
      'Name one of these as `adapter` or in RM_ENGINE_ADAPTER, or leave it out.',
    );
  }
  addDriverFiles(process.env, thisHost);
  let opened = await request(checks);
  if (opened?.info.kind === 'software') {
    const hardware = (await listAdapters()).find(name => !isSoftware(name));
    if (hardware) opened = (await request(checks, `adapter=${hardware}`)) ?? opened;
  }
  // Working without it would take a hundred times as long: better to say what its driver lacks.
  const hidden =
    opened?.info.kind === 'gpu' || choosesSoftware(envAtStart) ? undefined : hiddenGpu(hostAtStart);
  if (hidden) throw hiddenGpuError(hidden);
  if (!opened && enableBundledDriver()) opened = await request(checks);
  if (opened) return opened;
  throw new RmError('ADAPTER_NONE', 'no WebGPU adapter was found on this machine', adapterAdvice());
}

/** An adapter with all limits and features that it offers, by their WebGPU names. @throws RmError ADAPTER_NONE. */
export async function describeAdapter(
  name: string,
): Promise<{ info: AdapterInfo; limits: Record<string, number>; features: string[] }> {
  const { adapter, info } = await openAdapter(name);
  const limits: Record<string, number> = {};
  // Getters of the prototype, which spreading would miss.
  for (const limit in adapter.limits)
    limits[limit] = Number(adapter.limits[limit as keyof GPUSupportedLimits]);
  return { info, limits, features: [...adapter.features].sort() };
}

/** Before a bundled driver changed it. */
const envAtStart = { ...process.env };
const hostAtStart = hostAt('', { platform: process.platform, execPath: process.execPath, env: envAtStart });

/** Whether the environment names drivers, all of which compute on the CPU. */
function choosesSoftware(env: NodeJS.ProcessEnv): boolean {
  const named = env.VK_DRIVER_FILES ?? env.VK_ICD_FILENAMES;
  return named?.split(':').every(path => /lvp|swiftshader/i.test(path)) ?? false;
}

/** The refusal to compute on the CPU beside a GPU. */
const hiddenGpuError = ({ evidence, cure }: HiddenGpu): RmError =>
  new RmError(
    'ADAPTER_NONE',
    evidence,
    `${cure} To compute on the CPU all the same, name its \`adapter\`: llvmpipe or swiftshader.`,
  );

/** Says how to get a WebGPU adapter on this platform. */
export function adapterAdvice(): string {
  if (process.platform !== 'linux') return 'Update the graphics driver, then run: rm-engine doctor';
  return (
    'Install the GPU vendor’s Vulkan driver and libvulkan1 (in containers also set ' +
    'NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility). Without a GPU: apt install mesa-vulkan-drivers (Mesa 24 or ' +
    'newer), or npm install @sparticuz/chromium@147.0.0 beside rm-engine for a slower software driver. Then run: ' +
    'rm-engine doctor'
  );
}
