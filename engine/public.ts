export type { AdapterInfo, SubgroupMatrixConfig } from './adapterInfo.js';
export type { CardMemory } from './cardMemory.js';
export { Device } from './device.js';
export type { DeviceFacts, HostRoom } from './deviceFacts.js';
export type { DeviceFeatures, DeviceOptions, ForeignDeviceOptions, LimitName } from './deviceOptions.js';
export { type BufferView, type Dispatch, f32Bits, flatGrid } from './dispatch.js';
export { byteSize, type DType, decodeToF32, elementCount, encodeFromF32 } from './dtype.js';
export { type ErrorCode, ensure, errorCodes, RmError } from './errors.js';
export type {} from './globalTypes.js';
export type { HostValues } from './hostValues.js';
export type { Journal, LiveState, StoredTensor } from './journal.js';
export { listAdapters } from './listAdapters.js';
export type { BufferPurpose, LabelledMemory, MemoryPool, PooledBuffer } from './memory.js';
export type { KernelProfile, Profiler, SectionProfile } from './profiler.js';
export {
  type Access,
  type Binding,
  type ParameterType,
  type ProgramSpec,
  type ProgramTarget,
  programFamily,
} from './program.js';
export type { ProgramCache } from './programCache.js';
export type { Progress, ProgressEvent, ProgressStep } from './progress.js';
export { Recorder } from './recorder.js';
export { type BufferTensorOptions, Scope, Tensor } from './tensor.js';
export {
  download,
  downloadF32,
  downloadInto,
  downloadU32,
  type TensorOptions,
  tensorFrom,
  tensorFromBytes,
  upload,
} from './transfer.js';
