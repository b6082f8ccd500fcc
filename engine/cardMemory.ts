import type { AdapterInfo } from './adapterInfo.js';
import { formatBytes } from './format.js';
import { hostMemory, type MachineFacts } from './hostMemory.js';

/** The memory of the card that is open, in bytes. */
export interface CardMemory {
  readonly total: number;
  /** Undefined where only the total is known. */
  readonly free?: number;
  /** Whether it is the host's memory too. */
  readonly unified: boolean;
  /** What says so, for example "nvidia-smi". */
  readonly source: string;
  /** The card's PCI address, if known. */
  readonly address?: string;
  /** Cards of this name between which nothing tells which one is open; the one with the least free memory then counts. */
  readonly alike: number;
}

/** A card as a driver or tool describes it. */
interface Card {
  readonly name: string;
  readonly address: string;
  readonly total: number;
  readonly free?: number;
  readonly unified?: boolean;
  readonly source: string;
}

/** What only the open device can find out. */
export interface DeviceProbes {
  /** Bytes that can be allocated now; undefined where the driver sets no end to them. */
  allocatable(): Promise<number | undefined>;
  /** Holds so many bytes of the card until the result is disposed. */
  hold(bytes: number): Promise<AsyncDisposable>;
}

const MIB = 2 ** 20;
/** Held on the open card, to see on which of several alike the free memory shrinks. */
const HELD = 256 * MIB;
/** Graphics memory set aside for a GPU that shares the host's; smaller than that of any card of its own in use today. */
const MOST_SET_ASIDE = 4 * 2 ** 30;

/** Cards of NVIDIA's driver. */
async function nvidiaCards({ run }: MachineFacts): Promise<Card[]> {
  const fields = 'name,pci.bus_id,memory.total,memory.free';
  const text = await run('nvidia-smi', [`--query-gpu=${fields}`, '--format=csv,noheader,nounits']);
  return (text ?? '').split('\n').flatMap(line => {
    const [name = '', address = '', total, free] = line.split(',').map(field => field.trim());
    if (!address) return [];
    // Chips that share the host's memory say "[N/A]".
    const known = Number(total) > 0;
    return [
      {
        ...{ name, address, total: known ? Number(total) * MIB : 0, unified: !known, source: 'nvidia-smi' },
        ...(known && Number.isFinite(Number(free)) && { free: Number(free) * MIB }),
      },
    ];
  });
}

/** Cards of the kernel's amdgpu driver. */
function amdCards({ list, read }: MachineFacts): Card[] {
  return list('/sys/class/drm')
    .filter(name => /^card\d+$/.test(name))
    .flatMap(name => {
      const folder = `/sys/class/drm/${name}/device`;
      const bytes = (file: string) => Number.parseInt(read(`${folder}/${file}`) ?? '', 10);
      const [total, used] = [bytes('mem_info_vram_total'), bytes('mem_info_vram_used')];
      if (!Number.isFinite(total)) return [];
      return [
        {
          name: read(`${folder}/product_name`)?.trim() ?? '',
          address: read(`${folder}/uevent`)?.match(/^PCI_SLOT_NAME=(.*)$/m)?.[1] ?? name,
          ...{ total, free: total - (used || 0), source: 'amdgpu' },
          unified: total <= MOST_SET_ASIDE && bytes('mem_info_gtt_total') > total,
        },
      ];
    });
}

const displayClass =
  'HKLM\\SYSTEM\\CurrentControlSet\\Control\\Class\\{4d36e968-e325-11ce-bfc1-08002be10318}';

/** Cards in the registry of Windows, which knows no free memory. */
async function windowsCards({ run }: MachineFacts): Promise<Card[]> {
  const text = (await run('reg', ['query', displayClass, '/s'])) ?? '';
  return text.split(/\r?\n(?=HKEY)/).flatMap(entry => {
    const value = (name: string) => entry.match(new RegExp(`^ +${name} +REG_\\w+ +(.*?)\\r?$`, 'm'))?.[1];
    const total = Number(value('HardwareInformation\\.qwMemorySize'));
    if (!(total > 0)) return [];
    return [
      {
        ...{ name: value('DriverDesc') ?? '', address: value('MatchingDeviceId') ?? '' },
        ...{ total, unified: total <= MOST_SET_ASIDE / 2, source: 'registry' },
      },
    ];
  });
}

/** Names as drivers and tools write them, without what they write differently. */
const plainName = (name: string): string => name.toLowerCase().replace(/[^a-z0-9]/g, '');

/** The cards that the adapter may be: those of its name, else all. */
function cardsOf({ device }: AdapterInfo, cards: readonly Card[]): readonly Card[] {
  const wanted = plainName(device);
  const named = cards.filter(({ name }) => name !== '' && plainName(name) === wanted);
  if (named.length > 0) return named;
  const similar = cards.filter(({ name }) => name !== '' && wanted.includes(plainName(name)));
  return similar.length > 0 ? similar : cards;
}

/** Which of several cards is open: the one on which memory becomes scarce where the device takes some. */
async function openedCard(
  cards: readonly Card[],
  again: () => Promise<readonly Card[]>,
  { hold }: DeviceProbes,
): Promise<Card | undefined> {
  await using _ = await hold(HELD);
  const now = await again();
  const shrunk = cards.filter(({ address, free = 0 }) => {
    const then = now.find(card => card.address === address)?.free ?? free;
    return free - then >= HELD / 2;
  });
  return shrunk.length === 1 ? shrunk[0] : undefined;
}

/** The part of the host's memory that a GPU which shares it may take: what macOS recommends, and Windows allows. */
const unifiedShare = ({ platform }: MachineFacts, total: number): number => {
  if (platform === 'win32') return 0.5 * total;
  return platform === 'darwin' && total <= 36 * 2 ** 30 ? (2 / 3) * total : 0.75 * total;
};

async function unifiedMemory(machine: MachineFacts, source: string): Promise<CardMemory> {
  const { total, free } = await hostMemory(machine);
  const most = unifiedShare(machine, total);
  return { total: most, free: Math.min(free, most), unified: true, source, alike: 1 };
}

/** Vendors whose GPUs share the host's memory, but for Intel's cards of their own. */
const sharesMemory = ({ vendor, device, description, architecture }: AdapterInfo): boolean =>
  /^(apple|arm|qualcomm|img-tec|samsung|broadcom)$/i.test(vendor) ||
  (/^intel$/i.test(vendor) &&
    !/\barc-[ab]\d|\barc-pro|battlemage|\bbmg|\bdg[12]\b|gen-12-hp|flex|\bmax-1/i.test(
      `${device} ${description} ${architecture}`,
    ));

/**
 * The memory of the open card: from the vendor's tool or the kernel's files, from the host's memory where the GPU shares it,
 * else by allocating until the driver refuses. Undefined where nothing tells.
 */
export async function cardMemory(
  info: AdapterInfo,
  machine: MachineFacts,
  probes: DeviceProbes,
): Promise<CardMemory | undefined> {
  const vendorCards = async (): Promise<Card[]> => {
    if (/^nvidia$/i.test(info.vendor)) {
      const cards = await nvidiaCards(machine);
      if (cards.length > 0) return cards;
    }
    if (machine.platform === 'linux' && /^amd$/i.test(info.vendor)) return amdCards(machine);
    // Several vendors' cards are in one registry: only those of the adapter's name count.
    if (machine.platform !== 'win32') return [];
    return (await windowsCards(machine)).filter(({ name }) => plainName(name) === plainName(info.device));
  };
  const cards = cardsOf(info, await vendorCards());
  const [first, second] = cards;
  if (first) {
    const known = second ? await openedCard(cards, vendorCards, probes) : first;
    const card = known ?? cards.reduce((a, b) => ((b.free ?? b.total) < (a.free ?? a.total) ? b : a));
    if (card.unified) return await unifiedMemory(machine, card.source);
    const { total, free, source, address } = card;
    return {
      ...{ total, unified: false, source },
      ...(free !== undefined && { free }),
      ...(known && { address }),
      alike: known ? 1 : cards.length,
    };
  }
  if (sharesMemory(info)) return await unifiedMemory(machine, 'the host');
  const free = await probes.allocatable();
  return free === undefined
    ? undefined
    : { total: free, free, unified: false, source: 'allocated to try', alike: 1 };
}

/** The part of free memory that a run may take: others use the card too, and drivers need some. */
const SHARE = 0.9;
/** The same of all memory where nothing says how much is free. */
const SHARE_OF_TOTAL = 0.8;

/** The limit on a device's buffers where the user sets none. */
export const limitOf = ({ total, free }: Pick<CardMemory, 'total' | 'free'>): number =>
  Math.floor(free === undefined ? SHARE_OF_TOTAL * total : SHARE * free);

/** The limit, and where it comes from, in one line. */
export function describeLimit(memory: CardMemory): string {
  const { total, free, unified, source, alike } = memory;
  const kind = unified ? ' of memory shared with the host' : '';
  const part =
    free === undefined
      ? `${SHARE_OF_TOTAL} of ${formatBytes(total)}${kind}, of which nothing says how much is free`
      : `${SHARE} of the ${formatBytes(free)} that are free of ${formatBytes(total)}${kind}`;
  const which =
    alike > 1
      ? `; ${alike} cards have this name and nothing tells which one is open: the one with least free memory counts`
      : '';
  return `device memory: at most ${formatBytes(limitOf(memory))}, ${part} (${source})${which}`;
}
