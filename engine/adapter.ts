import { RmError } from './errors.js';
import { enableBundledDriver, hasVulkan } from './softwareDriver.js';
import { loadWebgpu } from './webgpu.js';

/** What is known of the chosen adapter; goes into reports, benchmark tables and provenance files. */
export interface AdapterInfo {
  /** Driver's own words, e.g. "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)". */
  description: string;
  vendor: string;
  architecture: string;
  device: string;
  /** 'software' runs on the CPU (lavapipe, SwiftShader, WARP). */
  kind: 'gpu' | 'software';
  subgroupMinSize: number;
  subgroupMaxSize: number;
  /** What a subgroup can multiply at once, m x k by k x n; empty without subgroup matrices. */
  subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
}

/** A product that the subgroup-matrix units of an adapter compute: an m x k by a k x n matrix. */
export interface SubgroupMatrixConfig {
  /** Element types of the operands and of the sums, e.g. "f16" and "f32". */
  component: string;
  result: string;
  m: number;
  n: number;
  k: number;
}

export interface OpenedAdapter {
  adapter: GPUAdapter;
  info: AdapterInfo;
}

/**
 * Instance toggles. shader-f16 is hidden on NVIDIA without vulkan_enable_f16_on_nvidia (crbug 42251215), subgroup
 * matrices need allow_unsafe_apis, and timestamps are rounded to 65 us unless timestamp_quantization is off.
 */
export const toggles = [
  'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia',
  'disable-dawn-features=timestamp_quantization',
];

/** On Linux only Vulkan is asked for: Dawn's null backend accepts everything and computes nothing. */
const backend = process.platform === 'linux' ? ['backend=vulkan'] : [];

/**
 * Instances by Vulkan driver (an instance keeps to those it found) and flags, kept for the life of the process:
 * dawn.node crashes when the object that create() returned is collected while anything made from it is alive (crbug
 * 387965810).
 */
const instances = new Map<string, GPU>();

async function instance(...flags: string[]): Promise<GPU> {
  const { create } = await loadWebgpu();
  const key = [process.env.VK_DRIVER_FILES, ...flags].join(' ');
  let gpu = instances.get(key);
  if (!gpu) {
    gpu = create([...backend, ...toggles, ...flags]);
    instances.set(key, gpu);
  }
  return gpu;
}

/** Whether an adapter of this name or description computes on the CPU. */
export const isSoftware = (text: string): boolean =>
  /llvmpipe|lavapipe|swiftshader|basic render|\bWARP\b/i.test(text);

/** Raw names of the adapters Dawn sees. Dawn lists them only in the error for an unknown name. */
export async function listAdapters(): Promise<string[]> {
  const lister = await instance('adapter=__list__');
  try {
    await lister.requestAdapter();
    return [];
  } catch (error) {
    return [...String((error as Error).message).matchAll(/name: '([^']*)'/g)].map(match => match[1]!);
  }
}

/** Dawn's objects have no fields of their own: JSON would show {}. */
interface DawnMatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

function matrixConfigs(info: GPUAdapterInfo): SubgroupMatrixConfig[] {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: Iterable<DawnMatrixConfig> };
  return [...subgroupMatrixConfigs].map(({ componentType, resultComponentType, M, N, K }) => ({
    component: componentType,
    result: resultComponentType,
    m: M,
    n: N,
    k: K,
  }));
}

function describe(adapter: GPUAdapter): AdapterInfo {
  const { description, vendor, architecture, device, isFallbackAdapter } = adapter.info;
  const software = isFallbackAdapter || isSoftware(`${description} ${device} ${architecture}`);
  return {
    description,
    vendor,
    architecture,
    device,
    kind: software ? 'software' : 'gpu',
    subgroupMinSize: adapter.info.subgroupMinSize ?? 0,
    subgroupMaxSize: adapter.info.subgroupMaxSize ?? 0,
    subgroupMatrixConfigs: matrixConfigs(adapter.info),
  };
}

async function request(...flags: string[]): Promise<OpenedAdapter | undefined> {
  const gpu = await instance(...flags);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  return adapter ? { adapter, info: describe(adapter) } : undefined;
}

/**
 * Chooses an adapter: the one whose name contains `wanted` (case does not matter), else discrete before integrated
 * (Dawn's own order for high-performance) before software. Where no Vulkan driver is installed, a software driver
 * from the npm package @sparticuz/chromium is used if that package is there.
 *
 * @throws RmError ADAPTER_NONE with the adapters there are and how to get one.
 */
export async function openAdapter(wanted?: string): Promise<OpenedAdapter> {
  if (/swiftshader/i.test(wanted ?? '') || (process.platform === 'linux' && !hasVulkan()))
    enableBundledDriver();
  if (wanted) {
    const names = await listAdapters();
    const name = names.find(candidate => candidate.toLowerCase().includes(wanted.toLowerCase()));
    const found = name && (await request(`adapter=${name}`));
    if (found) return found;
    throw new RmError(
      'ADAPTER_NONE',
      `no adapter's name contains '${wanted}' (there are: ${names.join(', ') || 'none'})`,
      'Name one of these with --adapter or RM_ENGINE_ADAPTER, or leave it out.',
    );
  }
  let found = await request();
  if (found?.info.kind === 'software') {
    const hardware = (await listAdapters()).find(name => !isSoftware(name));
    if (hardware) found = (await request(`adapter=${hardware}`)) ?? found;
  }
  if (!found && enableBundledDriver()) found = await request();
  if (found) return found;
  throw new RmError('ADAPTER_NONE', 'no WebGPU adapter was found on this machine', adapterAdvice());
}

/** How to get an adapter, by platform. */
export function adapterAdvice(): string {
  if (process.platform !== 'linux') return 'Update the graphics driver, then run: rm-engine doctor';
  return (
    'Install the GPU vendor’s Vulkan driver and libvulkan1 (in containers also set ' +
    'NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility). Without a GPU: apt install mesa-vulkan-drivers (Mesa 24 or ' +
    'newer), or npm install @sparticuz/chromium@147.0.0 beside rm-engine for a slower software driver. Then run: ' +
    'rm-engine doctor'
  );
}
