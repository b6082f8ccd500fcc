import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatFindings } from '../../cli/doctor/command.js';
import {
  type DoctorContext,
  examine,
  type Finding,
  type ProbedDevice,
  probes,
} from '../../cli/doctor/probes.js';
import { plainText } from '../../cli/terminal/text.js';
import { RmError } from '../../engine/errors.js';
import { explainBinaryFailure } from '../../engine/webgpu.js';

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
    listAdapters: async () => ['NVIDIA H200'],
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
      features: { f16: true, subgroups: true, timestamps: true, subgroupMatrix: false },
      limits: {
        maxBufferSize: 2 ** 32,
        maxStorageBufferBindingSize: 2 ** 31,
        maxComputeInvocationsPerWorkgroup: 1024,
        maxComputeWorkgroupStorageSize: 49152,
      },
      selfTest: async () => 'float' as const,
      multiply: async () => 1e-8,
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
    ['bundled-driver'],
  );
  assert.is(of('vulkan-drivers').evidence, '/usr/share/vulkan/icd.d/nvidia_icd.json');
  assert.match(of('features').evidence, /shader-f16: yes, subgroups: yes, of 32, timestamp-query: yes/);
  assert.match(
    of('limits').evidence,
    /buffers of 4\.00 GiB, bindings of 2\.00 GiB, 1024 invocations and 48\.0 KiB/,
  );
  assert.is(state.closed, 1);
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
  const bare = { exists: () => false, list: () => [], listAdapters: async () => [] };
  const without = await findings(bare);
  const helped = await findings({ ...bare, bundledDriver: () => ({ version: '147.0.0' }) });
  for (const id of ['vulkan-loader', 'vulkan-drivers', 'adapters']) {
    assert.is(without.of(id).status, 'fail', id);
    assert.is(helped.of(id).status, 'warn', id);
  }
  assert.match(helped.of('bundled-driver').evidence, /147\.0\.0/);
});

test('an NVIDIA GPU without its Vulkan driver, as in a container', async () => {
  const { of } = await findings({
    exists: path => path === '/dev/nvidia0',
    list: folder => (folder === '/usr/share/vulkan/icd.d' ? ['lvp_icd.json'] : []),
  });
  assert.is(of('vulkan-drivers').status, 'warn');
  assert.match(of('vulkan-drivers').cure!, /NVIDIA_DRIVER_CAPABILITIES/);
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
