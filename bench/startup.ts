import { Device, type DeviceOptions } from '../engine/index.js';
import { Model, readArchitecture } from '../model/index.js';
import {
  type Benchmark,
  type BenchText,
  describeEnvironment,
  digits,
  environment,
  left,
  median,
  right,
  wallTime,
} from './measure.js';
import { prefill, someTokens } from './prefill.js';

export interface StartupStep {
  readonly step: string;
  readonly milliseconds: number;
  /** Milliseconds in calls that compile: Dawn's checks, Tint's translation, the driver. */
  readonly compiling: number;
  /** Milliseconds of the first time beyond compiling and a later time: drivers generate code at first use. */
  readonly firstUse: number;
}

export interface StartupBenchmark extends Benchmark {
  readonly model: string;
  readonly tokens: number;
  readonly steps: readonly StartupStep[];
  /** From the start of the process to the first logits on the host. */
  readonly milliseconds: number;
  /** Part of it in the driver: compiling and first use. */
  readonly driver: number;
  readonly beyondDriver: number;
}

/** Target for the time to the first result, without the driver's part. */
const STARTUP_TARGET_MS = 2000;

/**
 * Times a start up to the first result: opens a device, loads a model, runs one forward pass, then repeats the last two
 * to see their cost without compilation. Only the first call in a process measures a start.
 *
 * @param options.startedAt when the start began, on performance.now()'s clock (default: the start of the process).
 */
export async function benchStartup(
  folder: string,
  name: string,
  options: { device?: DeviceOptions; tokens?: number; startedAt?: number } = {},
): Promise<StartupBenchmark> {
  const { tokens = 64, startedAt = 0 } = options;
  const steps: StartupStep[] = [];
  const step = (name: string, milliseconds: number, compiling = 0, again = milliseconds) =>
    steps.push({
      step: name,
      milliseconds,
      compiling,
      firstUse: Math.max(0, milliseconds - compiling - again),
    });
  step('start Node, import modules', performance.now() - startedAt);
  let opened: Device | undefined;
  step(
    'open device',
    await wallTime(async () => {
      opened = await Device.open(options.device);
    }),
  );
  const device = opened!;
  try {
    const compiled = async (run: () => Promise<unknown>) => {
      const before = device.programs.compileMilliseconds;
      const milliseconds = await wallTime(run);
      return [milliseconds, device.programs.compileMilliseconds - before] as const;
    };
    let loaded: Model | undefined;
    const load = async () => {
      loaded = await Model.load(device, folder);
    };
    const firstLoad = await compiled(load);
    using model = loaded!;
    const { vocab } = await readArchitecture(folder);
    const ids = someTokens(tokens, vocab);
    const firstForward = await compiled(() => prefill(model, ids));
    const forwards: number[] = [];
    for (let i = 0; i < 5; i++) forwards.push(await wallTime(() => prefill(model, ids)));
    const secondLoad = await wallTime(load);
    loaded!.dispose();
    step('load model', ...firstLoad, secondLoad);
    step(`first forward, ${tokens} tokens`, ...firstForward, median(forwards));
    const sum = (field: 'milliseconds' | 'compiling' | 'firstUse') =>
      steps.reduce((total, one) => total + one[field], 0);
    const milliseconds = sum('milliseconds');
    const driver = sum('compiling') + sum('firstUse');
    const beyondDriver = milliseconds - driver;
    const lower = 'lower' as const;
    return {
      ...{ bench: 'startup', ...environment(device), model: name, tokens, steps },
      ...{ milliseconds, driver, beyondDriver },
      metrics: [
        { name: `${name}, to the first result`, value: milliseconds, unit: 'ms', better: lower },
        { name: `${name}, beyond the driver`, value: beyondDriver, unit: 'ms', better: lower },
      ],
    };
  } finally {
    await device.close();
  }
}

export const startupText = (result: StartupBenchmark): BenchText => {
  const row = (name: string, ...values: number[]) => [name, ...values.map(value => digits(value))];
  const { steps, milliseconds, driver, beyondDriver } = result;
  const sum = (field: 'compiling' | 'firstUse') => steps.reduce((total, one) => total + one[field], 0);
  return {
    description: `${result.model}, from the start of the process to the first logits on the host, ${describeEnvironment(result)}`,
    tables: [
      {
        columns: [left('step'), right('ms'), right('compiling'), right('first use'), right('rest')],
        rows: [
          ...steps.map(one =>
            row(
              one.step,
              one.milliseconds,
              one.compiling,
              one.firstUse,
              one.milliseconds - one.compiling - one.firstUse,
            ),
          ),
          row('together', milliseconds, sum('compiling'), sum('firstUse'), beyondDriver),
        ],
      },
    ],
    remarks: [
      'Compiling: host time in createShaderModule and createComputePipeline. First use: time of the first load and ' +
        'forward pass beyond compiling and a later time; drivers that generate code at the first dispatch do it ' +
        'there, and memory is touched for the first time.',
      `Beyond the driver: ${digits(beyondDriver)} ms (target: at most ${STARTUP_TARGET_MS}${
        beyondDriver <= STARTUP_TARGET_MS ? ', met' : ', MISSED'
      }); in the driver: ${digits(driver)} ms.`,
    ],
  };
};
