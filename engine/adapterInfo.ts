/** Describes an adapter in reports, benchmark tables and provenance files. */
export interface AdapterInfo {
  /** As the driver words it, e.g. "llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)". */
  description: string;
  vendor: string;
  architecture: string;
  device: string;
  /** 'software' runs on the CPU (lavapipe, SwiftShader, WARP). */
  kind: 'gpu' | 'software';
  subgroupMinSize: number;
  subgroupMaxSize: number;
  /** The matrix products that a subgroup computes at once; empty without subgroup matrices. */
  subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
}

/** A matrix product that an adapter's subgroup-matrix units support: m x k times k x n. */
export interface SubgroupMatrixConfig {
  /** Element types of the operands and of the sums, e.g. "f16" and "f32". */
  component: string;
  result: string;
  m: number;
  n: number;
  k: number;
}

/** Whether a name or description is that of an adapter that computes on the CPU. */
export const isSoftware = (text: string): boolean =>
  /llvmpipe|lavapipe|swiftshader|basic render|\bWARP\b/i.test(text);

/** Fields of Dawn's object, which are getters: JSON.stringify would show {}. */
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

/** Describes an adapter by what WebGPU says of it. */
export function adapterInfo(info: GPUAdapterInfo): AdapterInfo {
  const { description, vendor, architecture, device, isFallbackAdapter } = info;
  const software = isFallbackAdapter || isSoftware(`${description} ${device} ${architecture}`);
  return {
    description,
    vendor,
    architecture,
    device,
    kind: software ? 'software' : 'gpu',
    subgroupMinSize: info.subgroupMinSize ?? 0,
    subgroupMaxSize: info.subgroupMaxSize ?? 0,
    subgroupMatrixConfigs: matrixConfigs(info),
  };
}
