import type { AdapterInfo, Device, DeviceFeatures } from '../../engine/index.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { BROADCAST_ROWS } from './broadcast.js';
import { TILED_TILE } from './tiled.js';

/** What a choice is called in test names, benchmarks and program keys, e.g. "tiled 64x64". */
export const outerProductsName = (choice: OuterProductsChoice): string =>
  choice.variant === 'tiled'
    ? `tiled ${TILED_TILE}x${TILED_TILE}`
    : `broadcast ${BROADCAST_ROWS}x${4 * choice.subgroup}`;

/** Every variant of gram and cross that this device can run, first the one that runs by default. */
export function outerProductsVariants({
  info,
  features,
}: Pick<Device, 'info' | 'features'>): OuterProductsChoice[] {
  const first = chooseOuterProducts(info, features);
  const subgroup = broadcastSubgroup(info, features);
  const others: OuterProductsChoice[] = [
    { variant: 'tiled' },
    ...(subgroup ? [{ variant: 'broadcast', subgroup } as const] : []),
  ];
  return [first, ...others.filter(({ variant }) => variant !== first.variant)];
}

/** A variant of `gram` and `cross`. */
export type OuterProductsChoice = { variant: 'broadcast'; subgroup: number } | { variant: 'tiled' };

/** The variant of gram and cross for a device, on the grounds of chooseMatmul. */
export function chooseOuterProducts(
  info: Pick<AdapterInfo, 'kind' | 'subgroupMinSize' | 'subgroupMaxSize'>,
  features: Pick<DeviceFeatures, 'subgroups'>,
): OuterProductsChoice {
  const subgroup = broadcastSubgroup(info, features);
  return info.kind === 'software' && subgroup ? { variant: 'broadcast', subgroup } : { variant: 'tiled' };
}
