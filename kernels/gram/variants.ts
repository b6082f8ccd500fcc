import type { AdapterInfo, Device, DeviceFeatures } from '../../engine/index.js';
import { broadcastSubgroup } from '../shared/subgroup.js';
import { BROADCAST_ROWS } from './broadcast.js';
import { TILED_TILE } from './tiled.js';

/** A variant of `gram` and `crossGram`. */
export type OuterProductsChoice = { variant: 'broadcast'; subgroup: number } | { variant: 'tiled' };

/** Name of a variant in tests, benchmarks and program keys, e.g. "tiled 64x64". */
export const outerProductsName = (choice: OuterProductsChoice): string =>
  choice.variant === 'tiled'
    ? `tiled ${TILED_TILE}x${TILED_TILE}`
    : `broadcast ${BROADCAST_ROWS}x${4 * choice.subgroup}`;

/** All variants of gram and crossGram that this device can run, the default first. */
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

/** The built-in choice of variant for a device, for the reasons of matmul's `chooseMatmul`. */
export function chooseOuterProducts(
  info: Pick<AdapterInfo, 'kind' | 'subgroupMinSize' | 'subgroupMaxSize'>,
  features: Pick<DeviceFeatures, 'subgroups'>,
): OuterProductsChoice {
  const subgroup = broadcastSubgroup(info, features);
  return info.kind === 'software' && subgroup ? { variant: 'broadcast', subgroup } : { variant: 'tiled' };
}
