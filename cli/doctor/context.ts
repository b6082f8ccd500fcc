import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { freemem, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { adapterAdvice } from '../../engine/adapter.js';
import { cacheFolder } from '../../engine/cacheFolder.js';
import type { Device } from '../../engine/device.js';
import type { DeviceOptions } from '../../engine/deviceOptions.js';
import { hostAt } from '../../engine/presentGpus.js';
import { findBundledDriver } from '../../engine/softwareDriver.js';
import { storedVerdicts } from '../device/checkedVariants.js';
import { withoutDawnWarnings } from '../terminal/dawnWarnings.js';
import { adapterListing } from './adapterListing.js';
import type { DoctorContext, ProbedDevice } from './probe.js';

/** Normalised error |C - A B|_F / (|A|_F |B|_F) of a 33 x 65 x 17 product on the device, compared with f64 on the host. */
async function multiply(device: Device): Promise<number> {
  const [{ Scope, tensorFrom, downloadF32 }, { matmul }] = await Promise.all([
    import('../../engine/index.js'),
    import('../../kernels/matmul/matmul.js'),
  ]);
  const [m, k, n] = [33, 65, 17];
  const values = (count: number, step: number) =>
    Float32Array.from({ length: count }, (_, i) => Math.sin(step * i) + 0.01 * i);
  const [a, b] = [values(m * k, 1.7), values(k * n, 0.9)];
  using scope = new Scope(device);
  const out = scope.tensor([m, n]);
  const operands = [tensorFrom(device, a, [m, k], 'a'), tensorFrom(device, b, [k, n], 'b')] as const;
  for (const operand of operands) scope.own(operand);
  matmul(device.recorder, ...operands, out);
  const actual = await downloadF32(out);
  const norm = (list: Float32Array) => Math.sqrt(list.reduce((sum, value) => sum + value * value, 0));
  let squares = 0;
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let expected = 0;
      for (let i = 0; i < k; i++) expected += a[row * k + i]! * b[i * n + column]!;
      squares += (actual[row * n + column]! - expected) ** 2;
    }
  }
  return Math.sqrt(squares) / (norm(a) * norm(b));
}

async function openDevice(options: DeviceOptions): Promise<ProbedDevice> {
  const { Device } = await import('../../engine/device.js');
  const device = await withoutDawnWarnings(() => Device.open(options));
  return {
    info: device.info,
    features: device.features,
    limits: device.limits,
    selfTest: async () => {
      const { requireExactArithmetic } = await import('../../engine/selftest.js');
      return requireExactArithmetic(device);
    },
    multiply: () => multiply(device),
    card: device.card ?? (await device.readCard()),
    verdicts: () => storedVerdicts(device, { warn: () => {} }),
    close: () => device.close(),
  };
}

/** The context of the machine that runs this process. */
export function thisMachine(options: DeviceOptions): DoctorContext {
  return {
    // A copy of the environment, before a bundled driver changes it.
    ...hostAt('', { platform: process.platform, execPath: process.execPath, env: { ...process.env } }),
    arch: process.arch,
    nodeVersion: process.version,
    advice: adapterAdvice(),
    cacheFolder: cacheFolder(),
    home: homedir(),
    loadBinary: async () => {
      await import('webgpu');
    },
    bundledDriver: findBundledDriver,
    listAdapters: () => adapterListing(options.adapter),
    hasNewCompiler: () => {
      const webgpu = dirname(createRequire(import.meta.url).resolve('webgpu'));
      return existsSync(join(webgpu, 'dist', `${process.platform}-${process.arch}`, 'dxcompiler.dll'));
    },
    openDevice: () => openDevice(options),
    tryWrite: folder => {
      mkdirSync(folder, { recursive: true });
      const file = join(folder, `doctor-${process.pid}`);
      writeFileSync(file, '', { flag: 'wx' });
      rmSync(file);
    },
    freeMemory: freemem,
  };
}
