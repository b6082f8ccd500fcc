// Gives Node a browser's navigator.gpu and WebGPU constants, for the two peers written for browsers.
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
// Must outlive everything made from it.
const gpu = create(process.platform === 'linux' ? ['backend=vulkan'] : []);
Object.defineProperty(globalThis, 'navigator', {
  value: { gpu, userAgent: 'node', hardwareConcurrency: 2 },
  configurable: true,
});

/** Dawn's description of the default adapter. */
export async function adapterName() {
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  return adapter?.info.description;
}
