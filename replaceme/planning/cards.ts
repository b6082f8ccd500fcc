import type { DeviceSpeed } from './deviceSpeed.js';

/** A card, by its data sheet. */
export interface Card extends DeviceSpeed {
  /** As its driver names it. */
  readonly name: string;
  /** Bytes, as its driver states them. */
  readonly memory: number;
}

interface Sheet {
  readonly vendor: 'nvidia' | 'amd' | 'apple';
  readonly mebibytes: number;
  /** f32 multiply-adds, without AMD's dual issue, which few programs reach. */
  readonly teraflops: number;
  /** Matrix units on f16 with f32 sums, dense, by instructions of a subgroup: on Hopper 0.62 of those of a warp group. */
  readonly matrixTeraflops?: number;
  readonly gigabytes: number;
}

/** Of host memory to a card, to memory that both share, of a dispatch among many, of one that is waited for: assumed. */
const UPLOAD = { card: 4, shared: 10 };
const DISPATCH_MICROSECONDS = 6.4;
const ROUND_TRIP_MICROSECONDS = 100;

const MIB = 2 ** 20;

/** Subgroups and matrices as the engine finds them on a device of this vendor. */
const unitsOf = (vendor: Sheet['vendor'], matrices: boolean) => {
  const extent = vendor === 'apple' ? 8 : 16;
  return {
    ...{ subgroupMinSize: 32, subgroupMaxSize: vendor === 'amd' ? 64 : 32 },
    subgroupMatrixConfigs: matrices
      ? [{ component: 'f16', result: 'f32', m: extent, n: extent, k: extent } as const]
      : [],
  };
};

const card = (name: string, sheet: Sheet): Card => ({
  ...{ name, memory: sheet.mebibytes * MIB, f32Gflops: 1000 * sheet.teraflops },
  ...(sheet.matrixTeraflops && { matrixGflops: 1000 * sheet.matrixTeraflops }),
  memoryGigabytes: sheet.gigabytes,
  uploadGigabytes: sheet.vendor === 'apple' ? UPLOAD.shared : UPLOAD.card,
  ...{ dispatchMicroseconds: DISPATCH_MICROSECONDS, roundTripMicroseconds: ROUND_TRIP_MICROSECONDS },
  info: {
    ...{ kind: 'gpu', vendor: sheet.vendor, device: name, description: `${name} (assumed)` },
    ...unitsOf(sheet.vendor, sheet.matrixTeraflops !== undefined),
  },
  features: {
    ...{ f16: true, subgroups: true, subgroupSizeControl: true },
    subgroupMatrix: sheet.matrixTeraflops !== undefined,
  },
});

const nvidia = (
  name: string,
  [mebibytes, teraflops, matrixTeraflops, gigabytes]: readonly [number, number, number, number],
) => card(name, { vendor: 'nvidia', mebibytes, teraflops, matrixTeraflops, gigabytes });

/** Cards by short names. */
export const cards = {
  h200: nvidia('NVIDIA H200', [143_771, 66.9, 613, 4800]),
  h100: nvidia('NVIDIA H100 80GB HBM3', [81_559, 66.9, 613, 3350]),
  a100: nvidia('NVIDIA A100-SXM4-80GB', [81_920, 19.5, 312, 2039]),
  l40s: nvidia('NVIDIA L40S', [46_068, 91.6, 362, 864]),
  4090: nvidia('NVIDIA GeForce RTX 4090', [24_564, 82.6, 165, 1008]),
  3090: nvidia('NVIDIA GeForce RTX 3090', [24_576, 35.6, 71, 936]),
  '7900xtx': card('AMD Radeon RX 7900 XTX', {
    ...{ vendor: 'amd', mebibytes: 24_560, teraflops: 30.7, matrixTeraflops: 123, gigabytes: 960 },
  }),
  // Of 16 GB, which the host needs too; its matrices are no faster than its other units.
  m2: card('Apple M2', { vendor: 'apple', mebibytes: 10_922, teraflops: 3.6, gigabytes: 100 }),
} satisfies Readonly<Record<string, Card>>;

/** The card whose driver has this name for it: "AMD Radeon RX 7900 XTX (RADV NAVI31)"; undefined for others. */
export const cardOf = (deviceName: string): Card | undefined =>
  Object.values(cards).find(({ name }) => deviceName === name || deviceName.startsWith(`${name} (`));
