import { isSoftware } from '../../engine/adapterInfo.js';
import { describeLimit } from '../../engine/cardMemory.js';
import { formatBytes } from '../../engine/format.js';
import { choiceWarnings } from '../device/adapterChoice.js';
import { fail, ok, type Probe, skip, warn } from './probe.js';

const MATMUL_TOLERANCE = 1e-6;

const device: Probe = {
  id: 'device',
  run: async (context, state) => {
    if (!state.binaryLoads) return skip('needs the webgpu binary');
    if (state.adapters?.crashed) return skip('the driver crashes');
    state.device = await context.openDevice();
    const { info, card } = state.device;
    const { kind } = info;
    // Mesa's description names the driver only.
    // WebGPU writes a device's name in small letters with hyphens.
    const plain = (name: string) => name.toLowerCase().replace(/[^a-z0-9]+/g, '-');
    const name = state.adapters?.names.find(one => plain(one) === plain(info.device)) ?? info.device;
    const description =
      name && !info.description.includes(name) ? `${name}, ${info.description}` : info.description;
    const gpus = (state.adapters?.names ?? []).filter(name => !isSoftware(name));
    const most = Math.max(1, ...gpus.map(name => gpus.filter(other => other === name).length));
    const [warning] = choiceWarnings({
      ...{ info, env: context.env, gpus: gpus.length },
      ...{ alike: card?.alike ?? most, address: card?.address },
    });
    if (warning) return warn(`${description}; ${warning}`, 'Name the adapter that you mean: --adapter NAME.');
    if (kind === 'gpu') return ok(description);
    return warn(`${description}: a software adapter; everything works, but slowly`, context.advice);
  },
};

const limits: Probe = {
  id: 'limits',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    const { limits } = device;
    return ok(
      `buffers of ${formatBytes(limits.maxBufferSize)}, bindings of ${formatBytes(limits.maxStorageBufferBindingSize)}, ` +
        `${limits.maxComputeInvocationsPerWorkgroup} invocations and ` +
        `${formatBytes(limits.maxComputeWorkgroupStorageSize)} of memory per workgroup`,
    );
  },
};

const features: Probe = {
  id: 'features',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    const { f16, subgroups, timestamps } = device.features;
    const { subgroupMinSize, subgroupMaxSize, subgroupMatrixConfigs } = device.info;
    const matrices = subgroupMatrixConfigs.map(
      ({ component, result, m, n, k }) => `${component} -> ${result} ${m}x${n}x${k}`,
    );
    const size =
      subgroupMinSize === subgroupMaxSize ? subgroupMinSize : `${subgroupMinSize} to ${subgroupMaxSize}`;
    return ok(
      [
        `shader-f16: ${f16 ? 'yes' : 'no'}`,
        `subgroups: ${subgroups ? `yes, of ${size}` : 'no'}`,
        `timestamp-query: ${timestamps ? 'yes' : 'no (bench uses the wall clock, --profile is unavailable)'}`,
        `matrix units: ${matrices.join('; ') || 'none'}`,
      ].join(', '),
    );
  },
};

const selfTest: Probe = {
  id: 'self-test',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const exact = await device.selfTest();
    if (exact === 'float') return ok('arithmetic is exact wherever the kernels rely on it');
    return warn(
      'the driver changes float arithmetic that must be exact; rm-engine uses integers instead, which is slower',
      'Update the graphics driver, or choose another adapter with --adapter.',
    );
  },
};

const matmul: Probe = {
  id: 'matmul',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const error = await device.multiply();
    const evidence = `normalised error of a small matrix product: ${error.toExponential(1)}`;
    // NaN must fail too.
    if (error <= MATMUL_TOLERANCE) return ok(evidence);
    return fail(evidence, 'Update the graphics driver, or choose another adapter with --adapter.');
  },
};

const variants: Probe = {
  id: 'variants',
  run: async (_, { device }) => {
    if (!device) return skip('needs a device');
    const verdicts = await device.verdicts();
    const wrong = Object.entries(verdicts?.wrong ?? {});
    if (wrong.length > 0)
      return warn(
        `wrong on this device and not used: ${wrong.map(([variant, found]) => `${variant} (${found})`).join('; ')}`,
        'Please report it with the output of: rm-engine doctor --json',
      );
    const { length } = verdicts?.right ?? [];
    if (length === 0) return skip('no program of a kernel variant has been compared with the host yet');
    return ok(`${length} programs of kernel variants compute what the host computes`);
  },
};

const cardMemory: Probe = {
  id: 'card-memory',
  run: (_, { device }) => {
    if (!device) return skip('needs a device');
    if (device.info.kind === 'software') return skip('a software adapter uses that of the host');
    if (device.card) return ok(describeLimit(device.card));
    return warn(
      'nothing says how much memory the GPU has',
      'Give --memory-limit, so that a run fits the GPU.',
    );
  },
};

/** The device: the first opens it, the others look at it. */
export const deviceProbes: readonly Probe[] = [
  ...[device, limits, features, selfTest, matmul, variants, cardMemory],
];
