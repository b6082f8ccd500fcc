// Memory of GPUs as drivers and tools tell it: outputs and files of real machines, written by hand. Below a second.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cardMemory, type DeviceProbes, describeLimit, limitOf } from '../../engine/cardMemory.js';
import { hostMemory, type MachineFacts, thisMachine } from '../../engine/hostMemory.js';
import { type AdapterInfo, Device } from '../../engine/index.js';
import { memoryProbes } from '../../engine/memoryProbes.js';

const [MIB, GIB] = [2 ** 20, 2 ** 30];

interface Fakes extends Partial<Omit<MachineFacts, 'read' | 'list' | 'run'>> {
  readonly files?: Readonly<Record<string, string>>;
  readonly programs?: Readonly<Record<string, string | (() => string)>>;
}

function machine({ files = {}, programs = {}, ...facts }: Fakes): MachineFacts {
  return {
    platform: 'linux',
    arch: 'x64',
    totalMemory: () => 64 * GIB,
    freeMemory: () => 40 * GIB,
    read: path => files[path],
    list: folder => [
      ...new Set(
        Object.keys(files)
          .filter(path => path.startsWith(`${folder}/`))
          .map(path => path.slice(folder.length + 1).split('/')[0]!),
      ),
    ],
    run: async program => {
      const output = programs[program];
      return typeof output === 'function' ? output() : output;
    },
    ...facts,
  };
}

const adapter = (vendor: string, device: string, more: Partial<AdapterInfo> = {}): AdapterInfo => ({
  ...{ description: 'driver', vendor, architecture: '', device, kind: 'gpu' },
  ...{ subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [] },
  ...more,
});

const noProbes: DeviceProbes = {
  allocatable: async () => undefined,
  hold: async () => assert.unreachable('nothing to tell apart') as never,
};

test('NVIDIA: the card of the adapter’s name, in MiB', async () => {
  const two = machine({
    programs: {
      'nvidia-smi':
        'NVIDIA H100 80GB HBM3, 00000000:19:00.0, 81559, 81008\nNVIDIA GeForce RTX 4090, 00000000:41:00.0, 24564, 20100\n',
    },
  });
  const memory = await cardMemory(adapter('nvidia', 'nvidia-geforce-rtx-4090'), two, noProbes);
  assert.equal(memory, {
    ...{ total: 24564 * MIB, free: 20100 * MIB, unified: false, source: 'nvidia-smi' },
    ...{ address: '00000000:41:00.0', alike: 1 },
  });
  assert.is(limitOf(memory!), Math.floor(0.9 * 20100 * MIB));
  assert.is(
    describeLimit(memory!),
    'device memory: at most 17.7 GiB, 0.9 of the 19.6 GiB that are free of 24.0 GiB (nvidia-smi)',
  );
});

/** Two cards of one name; the device's buffers come from the second where `tells`. */
function alike(tells: boolean): [MachineFacts, DeviceProbes] {
  let held = 0;
  const line = (bus: string, free: number) => `NVIDIA A100-SXM4-80GB, 00000000:${bus}:00.0, 81920, ${free}`;
  return [
    machine({
      programs: { 'nvidia-smi': () => [line('07', 80000), line('0F', 70000 - held / MIB)].join('\n') },
    }),
    {
      allocatable: async () => undefined,
      hold: async bytes => {
        held = tells ? bytes : 0;
        return {
          [Symbol.asyncDispose]: async () => {
            held = 0;
          },
        };
      },
    },
  ];
}

test('two cards of one name: the one whose memory shrinks is open', async () => {
  const memory = await cardMemory(adapter('nvidia', 'nvidia-a100-sxm4-80gb'), ...alike(true));
  assert.is(memory?.address, '00000000:0F:00.0');
  assert.is(memory?.free, 70000 * MIB);
  assert.is(memory?.alike, 1);
});

test('two cards of one name that cannot be told apart: the fuller one counts, and it is said', async () => {
  const memory = await cardMemory(adapter('nvidia', 'nvidia-a100-sxm4-80gb'), ...alike(false));
  assert.is(memory?.free, 70000 * MIB);
  assert.is(memory?.address, undefined);
  assert.match(describeLimit(memory!), /2 cards have this name and nothing tells which one is open/);
});

test('NVIDIA without nvidia-smi, or with MIG that hides the figures: allocating tells', async () => {
  const info = adapter('nvidia', 'nvidia-h100');
  const probes = { ...noProbes, allocatable: async () => 70 * GIB };
  const memory = await cardMemory(info, machine({}), probes);
  assert.equal(memory, {
    ...{ total: 70 * GIB, free: 70 * GIB, unified: false },
    ...{ source: 'allocated to try', alike: 1 },
  });
  const hidden = machine({
    programs: { 'nvidia-smi': 'NVIDIA H100, 00000000:19:00.0, 81559, [Insufficient Permissions]' },
  });
  const total = await cardMemory(info, hidden, noProbes);
  assert.is(total?.free, undefined);
  assert.is(limitOf(total!), Math.floor(0.8 * 81559 * MIB));
  assert.match(describeLimit(total!), /0\.8 of 79\.6 GiB, of which nothing says how much is free/);
});

test('NVIDIA chips that share the host’s memory', async () => {
  const spark = machine({ programs: { 'nvidia-smi': 'NVIDIA GB10, 0000000F:01:00.0, [N/A], [N/A]' } });
  const memory = await cardMemory(adapter('nvidia', 'nvidia-gb10'), spark, noProbes);
  assert.equal([memory?.unified, memory?.free, memory?.total], [true, 40 * GIB, 48 * GIB]);
});

const amd = (card: string, vram: number, used: number, gtt: number, name = '') => ({
  [`/sys/class/drm/${card}/device/mem_info_vram_total`]: `${vram}\n`,
  [`/sys/class/drm/${card}/device/mem_info_vram_used`]: `${used}\n`,
  [`/sys/class/drm/${card}/device/mem_info_gtt_total`]: `${gtt}\n`,
  [`/sys/class/drm/${card}/device/product_name`]: `${name}\n`,
  [`/sys/class/drm/${card}/device/uevent`]: `DRIVER=amdgpu\nPCI_SLOT_NAME=0000:0${card.at(-1)}:00.0\n`,
});

test('AMD: the kernel’s files', async () => {
  const one = machine({ files: amd('card0', 24 * GIB, 2 * GIB, 32 * GIB) });
  const memory = await cardMemory(adapter('amd', 'amd-radeon-rx-7900-xtx--radv-navi31-'), one, noProbes);
  assert.equal([memory?.total, memory?.free, memory?.unified], [24 * GIB, 22 * GIB, false]);
  assert.is(memory?.address, '0000:00:00.0');
});

test('AMD: a name decides between two cards; a small part of the host’s memory is an integrated GPU’s', async () => {
  const two = machine({
    files: {
      ...amd('card0', 24 * GIB, 2 * GIB, 32 * GIB, 'AMD Radeon RX 7900 XTX'),
      ...amd('card1', 0.5 * GIB, 0.1 * GIB, 30 * GIB, 'AMD Radeon 780M'),
    },
  });
  const integrated = await cardMemory(adapter('amd', 'amd-radeon-780m-radv-phoenix-'), two, noProbes);
  assert.equal([integrated?.unified, integrated?.free], [true, 40 * GIB]);
  const large = await cardMemory(adapter('amd', 'amd-radeon-rx-7900-xtx-radv-navi31-'), two, noProbes);
  assert.equal([large?.unified, large?.free], [false, 22 * GIB]);
});

test('GPUs that share the host’s memory take what is free there, within a container too', async () => {
  const intel = adapter('intel', 'intel-iris-xe-graphics-tgl-gt2');
  assert.is((await cardMemory(intel, machine({}), noProbes))?.free, 40 * GIB);
  const files = {
    '/proc/self/cgroup': '0::/docker/abc\n',
    '/sys/fs/cgroup/docker/abc/memory.max': `${8 * GIB}\n`,
    '/sys/fs/cgroup/docker/abc/memory.current': `${3 * GIB}\n`,
  };
  assert.is((await cardMemory(intel, machine({ files }), noProbes))?.free, 5 * GIB);
  const arc = adapter('intel', 'intel-arc-a770-graphics-dg2-');
  const probed = await cardMemory(arc, machine({}), { ...noProbes, allocatable: async () => 15 * GIB });
  assert.equal([probed?.unified, probed?.free], [false, 15 * GIB]);
});

test('macOS: what is free besides the caches of files, at most the recommended part', async () => {
  const page = 16384;
  const mac = (total: number, pages: number) =>
    machine({
      platform: 'darwin',
      totalMemory: () => total,
      freeMemory: () => GIB,
      programs: {
        vm_stat: `Mach Virtual Memory Statistics: (page size of ${page} bytes)\nPages free:  ${pages}.\nPages active:  99.\nPages inactive:  ${pages}.\nPages speculative:  ${pages}.\n`,
      },
    });
  const apple = adapter('apple', 'apple-m2-max');
  const some = await cardMemory(apple, mac(64 * GIB, (10 * GIB) / page), noProbes);
  assert.equal([some?.total, some?.free, some?.unified], [48 * GIB, 30 * GIB, true]);
  assert.is((await cardMemory(apple, mac(24 * GIB, (7 * GIB) / page), noProbes))?.free, 16 * GIB);
});

test('Windows: the registry’s entry of the adapter’s name', async () => {
  const entry = (at: number, name: string, bytes: number) =>
    `HKEY_LOCAL_MACHINE\\SYSTEM\\Class\\000${at}\r\n    DriverDesc    REG_SZ    ${name}\r\n    HardwareInformation.qwMemorySize    REG_QWORD    0x${bytes.toString(16)}\r\n`;
  const windows = machine({
    platform: 'win32',
    programs: {
      reg: `${entry(0, 'Intel(R) UHD Graphics 770', GIB)}\r\n${entry(1, 'AMD Radeon RX 6800', 16 * GIB)}`,
    },
  });
  const card = await cardMemory(adapter('amd', 'amd-radeon-rx-6800'), windows, noProbes);
  assert.equal([card?.total, card?.free, card?.source], [16 * GIB, undefined, 'registry']);
  const uhd = await cardMemory(adapter('intel', 'intel-r--uhd-graphics-770'), windows, noProbes);
  assert.equal([uhd?.unified, uhd?.total], [true, 32 * GIB]);
});

test('a container’s limit: cgroup v2 and v1, of an outer group too, without the caches of files', async () => {
  const v2 = {
    '/proc/self/cgroup': '0::/outer/inner\n',
    '/sys/fs/cgroup/outer/memory.max': `${16 * GIB}\n`,
    '/sys/fs/cgroup/outer/memory.current': `${10 * GIB}\n`,
    '/sys/fs/cgroup/outer/memory.stat': `anon 1\ninactive_file ${4 * GIB}\n`,
    '/sys/fs/cgroup/outer/inner/memory.max': 'max\n',
  };
  assert.equal(await hostMemory(machine({ files: v2 })), {
    ...{ total: 16 * GIB, free: 10 * GIB, limited: true },
  });
  const v1 = {
    '/proc/self/cgroup': '9:name=systemd:/\n4:memory:/docker/x\n0::/\n',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': '9223372036854771712\n',
    '/sys/fs/cgroup/memory/memory.usage_in_bytes': `${50 * GIB}\n`,
    '/sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes': `${12 * GIB}\n`,
    '/sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes': `${9 * GIB}\n`,
    '/sys/fs/cgroup/memory/docker/x/memory.stat': `cache 5\ntotal_inactive_file ${2 * GIB}\n`,
  };
  assert.equal(await hostMemory(machine({ files: v1 })), { total: 12 * GIB, free: 5 * GIB, limited: true });
  // A container that hides its own path mounts its group at the root.
  const hidden = {
    '/proc/self/cgroup': '4:memory:/docker/x\n',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes': `${6 * GIB}\n`,
    '/sys/fs/cgroup/memory/memory.usage_in_bytes': `${GIB}\n`,
  };
  assert.is((await hostMemory(machine({ files: hidden }))).free, 5 * GIB);
  assert.equal(await hostMemory(machine({})), { total: 64 * GIB, free: 40 * GIB, limited: false });
});

test('this machine has memory; holding some of a device’s takes it and gives it back', async () => {
  const { total, free } = await hostMemory();
  assert.ok(free > 0 && free <= total);
  await using device = await Device.open();
  if (device.info.kind !== 'software' || process.platform !== 'linux') return;
  assert.is(device.card, undefined);
  assert.is(await device.readCard(), undefined);
  const { rss } = process.memoryUsage();
  {
    await using _ = await memoryProbes(device.gpu, thisMachine.freeMemory).hold(256 * MIB);
    assert.ok(process.memoryUsage().rss > rss + 200 * MIB);
  }
  assert.ok(process.memoryUsage().rss < rss + 50 * MIB);
});

test.run();
