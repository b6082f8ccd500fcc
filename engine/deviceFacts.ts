import type { AdapterInfo } from './adapterInfo.js';

/** The host's memory beside the device's. */
export interface HostRoom {
  /** Bytes that were free when the device was opened, within a container's limit too. */
  readonly free: number;
  /** Whether the device's buffers are in it. */
  readonly shared: boolean;
}

/** What plans need to know of a device: of one that is open, or of one that is only described. */
export interface DeviceFacts {
  readonly info: Pick<AdapterInfo, 'kind' | 'description'>;
  readonly limits: { readonly maxStorageBufferBindingSize: number };
  readonly memory: { readonly limit: number };
  readonly host: HostRoom;
}
