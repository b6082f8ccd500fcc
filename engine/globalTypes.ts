// Global types that the package's declarations name. Interfaces merge: where TypeScript's DOM library, @webgpu/types or
// @types/node have them, these add nothing; elsewhere the declarations can be read all the same.
declare global {
  interface AbortSignal {}
  interface GPUAdapter {}
  interface GPUAdapterInfo {}
  interface GPUBindGroupLayout {}
  interface GPUBuffer {}
  interface GPUCommandEncoder {}
  interface GPUComputePassTimestampWrites {}
  interface GPUComputePipeline {}
  interface GPUDevice {}
  interface GPUError {}
}

export type {};
