import { Device, type DeviceOptions } from '../../engine/index.js';

/** The device to compute on: one that is open already, or how to open one. */
interface DeviceChoice extends Pick<DeviceOptions, 'adapter' | 'memoryLimit'> {
  /** An open device to use; it stays open. */
  device?: Device;
}

/** A device for the length of a block. */
export interface DeviceLease extends AsyncDisposable {
  readonly device: Device;
}

/**
 * `options.device`, which stays open, or a device that closes with the block: `await using lease = await openDevice(options)`.
 *
 * @throws RmError as Device.open.
 */
export async function openDevice(options: DeviceChoice): Promise<DeviceLease> {
  if (options.device) return { device: options.device, [Symbol.asyncDispose]: async () => {} };
  const { adapter, memoryLimit } = options;
  const device = await Device.open({
    robustness: false,
    ...(adapter !== undefined && { adapter }),
    ...(memoryLimit !== undefined && { memoryLimit }),
  });
  return { device, [Symbol.asyncDispose]: () => device.close() };
}
