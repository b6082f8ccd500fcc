import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { adapterListing } from '../../cli/doctor/adapterListing.js';
import { formatFindings } from '../../cli/doctor/command.js';
import type { DoctorContext, Finding, ProbedDevice } from '../../cli/doctor/probe.js';
import { examine, probes } from '../../cli/doctor/probes.js';
import { plainText } from '../../cli/terminal/text.js';
import { RmError } from '../../engine/errors.js';
import { explainBinaryFailure } from '../../engine/webgpuFailure.js';
import { temporaryFolder } from '../support.js';

/** A machine with a GPU where all is well. */
function machine(changes: Partial<DoctorContext> = {}, device: Partial<ProbedDevice> = {}) {
  const state = { closed: 0 };
  const context: DoctorContext = {
    platform: 'linux',
    arch: 'x64',
    nodeVersion: 'v20.11.0',
    env: { HOME: '/home/me' },
    advice: 'Install a driver.',
    cacheFolder: '/cache',
    home: '/home/me',
    loadBinary: async () => {},
    exists: path => path === '/usr/lib/x86_64-linux-gnu/libvulkan.so.1' || path.endsWith('nvidia_icd.json'),
    list: folder => (folder === '/usr/share/vulkan/icd.d' ? ['nvidia_icd.json', 'README'] : []),
    bundledDriver: () => undefined,
    execPath: '/usr/bin/node',
    read: () => undefined,
    usable: () => true,
    hasNewCompiler: () => true,
    listAdapters: async () => ({ names: ['NVIDIA H200'] }),
    openDevice: async () => ({
      info: {
        ...{
          description: 'NVIDIA H200',
          vendor: 'nvidia',
          architecture: 'hopper',
          device: 'H200',
          kind: 'gpu' as const,
        },
        ...{ subgroupMinSize: 32, subgroupMaxSize: 32, subgroupMatrixConfigs: [] },
      },
      features: {
        f16: true,
        subgroups: true,
        timestamps: true,
        subgroupMatrix: false,
        subgroupSizeControl: false,
      },
      limits: {
        maxBufferSize: 2 ** 32,
        maxStorageBufferBindingSize: 2 ** 31,
        maxComputeInvocationsPerWorkgroup: 1024,
        maxComputeWorkgroupStorageSize: 49152,
      },
      selfTest: async () => 'float' as const,
      multiply: async () => 1e-8,
      card: { total: 141 * 2 ** 30, free: 140 * 2 ** 30, unified: false, source: 'nvidia-smi', alike: 1 },
      verdicts: async () => ({ right: ['matmul tiled 64x64: f32, bf16, out'], wrong: {} }),
      close: async () => {
        state.closed++;
      },
      ...device,
    }),
    tryWrite: () => {},
    freeMemory: () => 16 * 2 ** 30,
    ...changes,
  };
  return { context, state };
}

async function findings(changes: Partial<DoctorContext> = {}, device: Partial<ProbedDevice> = {}) {
  const { context, state } = machine(changes, device);
  const list = await examine(context);
  assert.equal(
    list.map(({ id }) => id),
    probes.map(({ id }) => id),
    'every probe reports, in order',
  );
  for (const { id, status, evidence, cure } of list) {
    assert.ok(evidence.length > 0, id);
    assert.is(cure !== undefined, status === 'warn' || status === 'fail', `${id} is ${status}: ${cure}`);
  }
  return { of: (id: string): Finding => list.find(finding => finding.id === id)!, list, state };
}

test('a machine where all is well', async () => {
  const { list, of, state } = await findings();
  assert.equal(
    list.filter(({ status }) => status !== 'ok').map(({ id }) => id),
    ['bundled-driver', 'compiler'],
  );
  assert.is(of('vulkan-drivers').evidence, '/usr/share/vulkan/icd.d/nvidia_icd.json');
  assert.match(of('features').evidence, /shader-f16: yes, subgroups: yes, of 32, timestamp-query: yes/);
  assert.match(
    of('limits').evidence,
    /buffers of 4\.00 GiB, bindings of 2\.00 GiB, 1024 invocations and 48\.0 KiB/,
  );
  assert.is(state.closed, 1);
});

test('the GPU is named where its driver names only itself, with its matrix units and its memory', async () => {
  const { context } = machine();
  const { info } = await context.openDevice();
  const subgroupMatrixConfigs = [{ component: 'f16', result: 'f32', m: 16, n: 16, k: 16 }];
  const radv = {
    ...{ description: 'radv: Mesa 26.1.6-1', device: 'amd-radeon-rx-7900-xtx--radv-navi31-' },
    ...{ subgroupMinSize: 32, subgroupMaxSize: 64, subgroupMatrixConfigs },
  };
  const listAdapters = async () => ({ names: ['AMD Radeon RX 7900 XTX (RADV NAVI31)'] });
  const { of } = await findings({ listAdapters }, { info: { ...info, ...radv } });
  assert.is(of('device').evidence, 'AMD Radeon RX 7900 XTX (RADV NAVI31), radv: Mesa 26.1.6-1');
  assert.match(of('features').evidence, /subgroups: yes, of 32 to 64, .*matrix units: f16 -> f32 16x16x16$/);
  assert.match(of('card-memory').evidence, /140 GiB that are free of 141 GiB/);
});

test('old Node', async () => {
  assert.is((await findings({ nodeVersion: 'v18.19.0' })).of('node').status, 'fail');
});

test('a binary that does not load fails with its cure, and what needs it is skipped', async () => {
  const { of, state } = await findings({
    loadBinary: async () => {
      throw new Error("/x/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /x/dawn.node)");
    },
  });
  assert.is(of('webgpu').status, 'fail');
  assert.match(of('webgpu').evidence, /needs GLIBCXX 3\.4\.32/);
  for (const id of ['adapters', 'device', 'limits', 'features', 'self-test', 'matmul']) {
    assert.is(of(id).status, 'skip', id);
  }
  assert.is(state.closed, 0);
});

test('why a binary does not load', () => {
  assert.match(explainBinaryFailure("version `GLIBC_2.38' not found").cure, /glibc 2\.34/);
  assert.match(explainBinaryFailure('libX11.so.6: cannot open shared object file').reason, /libX11\.so\.6/);
  assert.match(explainBinaryFailure("Cannot find module '/x/linux-ia32/dawn.node'").reason, /no binary for/);
  assert.is(explainBinaryFailure('something\nelse').reason, 'its binary does not load: "something"');
});

test('no loader and no driver: a failure, or a warning where the bundled driver helps out', async () => {
  const bare = { exists: () => false, list: () => [], listAdapters: async () => ({ names: [] }) };
  const without = await findings(bare);
  const helped = await findings({ ...bare, bundledDriver: () => ({ version: '147.0.0' }) });
  for (const id of ['vulkan-loader', 'vulkan-drivers', 'adapters']) {
    assert.is(without.of(id).status, 'fail', id);
    assert.is(helped.of(id).status, 'warn', id);
  }
  assert.match(helped.of('bundled-driver').evidence, /147\.0\.0/);
});

test('a GPU that Vulkan does not show is a failure, with what its driver lacks', async () => {
  const files: Record<string, string> = {
    '/proc/driver/nvidia/version':
      'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024',
    '/etc/os-release': 'ID=ubuntu',
  };
  const { of } = await findings({
    exists: path => path === '/.dockerenv',
    read: path => files[path],
    list: folder => (folder === '/dev' ? ['nvidia0', 'nvidiactl'] : []),
    listAdapters: async () => ({ names: ['llvmpipe (LLVM 15.0.6, 256 bits)'] }),
  });
  assert.is(of('gpu').status, 'fail');
  assert.match(of('gpu').evidence, /driver 535\.183\.01/);
  assert.match(of('gpu').cure!, /NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility/);
});

test('a driver that crashes while adapters are listed is a finding', async () => {
  const { of, state } = await findings({
    listAdapters: async () => ({
      names: ['AMD Radeon 610M'],
      crashed: 'SIGSEGV while an adapter was opened',
    }),
  });
  assert.is(of('adapters').status, 'fail');
  assert.match(of('adapters').evidence, /crashed or hung: SIGSEGV.*AMD Radeon 610M/);
  assert.is(of('device').status, 'skip');
  assert.is(state.closed, 0);
});

test('listing in a child process: what it printed before it crashed, hung or ended', async () => {
  using folder = temporaryFolder();
  const child = (code: string) => {
    const path = join(folder.path, 'child.mjs');
    writeFileSync(path, code);
    return adapterListing('', path);
  };
  const list = `console.log('{"names":["A"]}');`;
  assert.equal(await child(list), { names: ['A'] });
  assert.equal(await child(`${list} process.kill(process.pid, 'SIGSEGV');`), {
    ...{ names: ['A'], crashed: 'SIGSEGV while an adapter was opened' },
  });
  assert.equal(await child('process.exit(139)'), {
    ...{ names: [], crashed: 'exit code 139 while adapters were listed' },
  });
});

test('adapters of one name, and variables that choose GPUs for CUDA only', async () => {
  const listAdapters = async () => ({ names: ['NVIDIA H200', 'NVIDIA H200', 'llvmpipe'] });
  const { context } = machine();
  const { card } = await context.openDevice();
  const twins = await findings(
    { listAdapters },
    { card: { ...card!, alike: 2, address: '00000000:41:00.0' } },
  );
  assert.is(twins.of('device').status, 'warn');
  assert.match(twins.of('device').evidence, /2 adapters have the name of this one: .* at 00000000:41:00\.0/);
  const chosen = await findings({ listAdapters, env: { CUDA_VISIBLE_DEVICES: '1' } });
  assert.match(
    chosen.of('device').evidence,
    /CUDA_VISIBLE_DEVICES=1 has no effect on WebGPU: this runs on H200, of 2/,
  );
  assert.is((await findings({ env: { CUDA_VISIBLE_DEVICES: '0' } })).of('device').status, 'ok', 'one GPU');
});

test('Windows compiles by DXC or FXC; Node of Snap; wrong kernel variants; unknown memory', async () => {
  assert.is((await findings({ platform: 'win32' })).of('compiler').status, 'ok');
  const slow = (await findings({ platform: 'win32', hasNewCompiler: () => false })).of('compiler');
  assert.match(`${slow.status} ${slow.evidence} ${slow.cure}`, /^warn .*FXC.*dxcompiler\.dll/);
  const snap = (await findings({ execPath: '/snap/node/9000/bin/node' })).of('node');
  assert.match(`${snap.status} ${snap.cure}`, /^warn .*nodejs\.org/);
  const verdicts = async () => ({
    right: [],
    wrong: { 'matmul tiled 128x64': '5 times the accepted error' },
  });
  const wrong = (await findings({}, { verdicts, card: undefined })).of;
  assert.match(
    `${wrong('variants').status} ${wrong('variants').evidence}`,
    /^warn .*matmul tiled 128x64 \(5 times/,
  );
  assert.match(wrong('card-memory').cure!, /--memory-limit/);
});

test('driver files named by the environment', async () => {
  const named = { VK_DRIVER_FILES: '/a/nvidia_icd.json:/b/lost.json' };
  assert.is((await findings({ env: named })).of('vulkan-drivers').evidence, '/a/nvidia_icd.json');
  const lost = (await findings({ env: { VK_ICD_FILENAMES: '/b/lost.json' } })).of('vulkan-drivers');
  assert.is(lost.status, 'fail');
  assert.match(lost.cure!, /VK_DRIVER_FILES/);
});

test('Vulkan files do not matter elsewhere than on Linux', async () => {
  const { of } = await findings({ platform: 'darwin', exists: () => false, list: () => [] });
  assert.is(of('vulkan-loader').status, 'skip');
  assert.is(of('vulkan-drivers').status, 'skip');
});

test('a software adapter is a warning', async () => {
  const { context } = machine();
  const { info } = await context.openDevice();
  const { of } = await findings({}, { info: { ...info, description: 'llvmpipe', kind: 'software' } });
  assert.is(of('device').status, 'warn');
});

test('no device: the error and its fix', async () => {
  const { of } = await findings({
    openDevice: async () => {
      throw new RmError('ADAPTER_NONE', 'no WebGPU adapter was found', 'Install one.');
    },
  });
  assert.equal(of('device'), {
    ...{ id: 'device', status: 'fail' },
    ...{ evidence: 'no WebGPU adapter was found', cure: 'Install one.' },
  });
  assert.is(of('self-test').status, 'skip');
});

test('wrong arithmetic fails, NaN too', async () => {
  const selfTest = async () => {
    throw new RmError('SELF_TEST_FAILED', 'twoSum is not exact', 'Update the driver.');
  };
  const { of, state } = await findings({}, { selfTest, multiply: async () => Number.NaN });
  assert.is(of('self-test').status, 'fail');
  assert.is(of('self-test').cure, 'Update the driver.');
  assert.is(of('matmul').status, 'fail');
  assert.is(state.closed, 1, 'the device is closed all the same');
  assert.is((await findings({}, { multiply: async () => 1e-3 })).of('matmul').status, 'fail');
});

test('arithmetic by integers is a warning', async () => {
  const { of } = await findings({}, { selfTest: async () => 'integer' });
  assert.is(of('self-test').status, 'warn');
});

test('a cache that cannot be written, and little memory, are warnings', async () => {
  const { of } = await findings({
    tryWrite: () => {
      throw Object.assign(new Error("EACCES: permission denied, open '/cache'"), { code: 'EACCES' });
    },
    freeMemory: () => 2 ** 30,
  });
  assert.is(of('cache').status, 'warn');
  assert.match(of('cache').evidence, /\/cache: cannot be written: permission denied/);
  assert.is(of('memory').status, 'warn');
});

test('the home folder is written as ~, so that a report does not name its user', async () => {
  const { of } = await findings({ cacheFolder: '/home/me/.cache/rm-engine' });
  assert.is(of('cache').evidence, '~/.cache/rm-engine is writable');
});

test('as text', () => {
  const list: Finding[] = [
    { id: 'node', status: 'ok', evidence: 'Node 20' },
    { id: 'matmul', status: 'fail', evidence: 'wrong', cure: 'Mend it.' },
  ];
  assert.equal(plainText(formatFindings(list)).split('\n'), [
    'ok    node    Node 20',
    'fail  matmul  wrong',
    '              -> Mend it.',
    '',
    '1 failed: rm-engine will not work',
    '',
  ]);
  assert.match(plainText(formatFindings(list.slice(0, 1))), /rm-engine will work here\n$/);
});

test.run();
