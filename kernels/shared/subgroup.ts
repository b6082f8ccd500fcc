import type { AdapterInfo, DeviceFeatures } from '../../engine/index.js';

/** The subgroup size for 'broadcast', if this device has one size that fits. */
export function broadcastSubgroup(
  { subgroupMinSize, subgroupMaxSize }: Pick<AdapterInfo, 'subgroupMinSize' | 'subgroupMaxSize'>,
  { subgroups }: Pick<DeviceFeatures, 'subgroups'>,
): number | undefined {
  const usable = subgroups && subgroupMinSize >= 4 && subgroupMinSize === subgroupMaxSize;
  return usable ? subgroupMinSize : undefined;
}
