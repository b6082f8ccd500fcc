import type { AdapterInfo, DeviceFeatures } from '../../engine/index.js';

/** The subgroup size for 'broadcast' variants, if this device has subgroups of one fixed size of at least 4. */
export function broadcastSubgroup(
  { subgroupMinSize, subgroupMaxSize }: Pick<AdapterInfo, 'subgroupMinSize' | 'subgroupMaxSize'>,
  { subgroups }: Pick<DeviceFeatures, 'subgroups'>,
): number | undefined {
  const usable = subgroups && subgroupMinSize >= 4 && subgroupMinSize === subgroupMaxSize;
  return usable ? subgroupMinSize : undefined;
}
