import {
  type AdapterInfo,
  adapterAdvice,
  Device,
  type DeviceOptions,
  RmError,
  reasonOf,
} from '../../engine/index.js';
import type { BenchTable, Metric } from '../measure.js';
import type { Details, Finding, StepEvent, StepInput, StepName } from './report.js';

/** The adapter computes on the CPU, and that was not allowed. */
export class NoGpu extends Error {
  readonly fix = `${adapterAdvice()} To check the software adapter all the same: \`allowSoftware\`.`;

  constructor({ description }: Pick<AdapterInfo, 'description'>) {
    super(`${description} is a software adapter: there is no GPU to check`);
  }
}

/** A device too small for a piece of work, rather than wrong. */
const isTooSmall = (error: unknown): boolean =>
  error instanceof RmError && ['ADAPTER_UNSUITABLE', 'OUT_OF_MEMORY'].includes(error.code);

/** A running step: its time, its device, and what it tells. */
export class StepRun {
  readonly #started = performance.now();

  constructor(
    readonly input: StepInput,
    private readonly send: (event: StepEvent) => void,
  ) {}

  /** Seconds that are left; below 0 once the step should begin nothing more. */
  get left(): number {
    return this.input.seconds - (performance.now() - this.#started) / 1000;
  }

  /** Says what the step is at, for the progress. */
  at(what: string): void {
    this.send({ at: what });
  }

  #find(level: Finding['level'], text: string, fix?: string): void {
    this.send({ finding: { level, text, ...(fix !== undefined && { fix }) } });
  }

  wrong(text: string, fix?: string): void {
    this.#find('wrong', text, fix);
  }

  warn(text: string, fix?: string): void {
    this.#find('warning', text, fix);
  }

  note(text: string): void {
    this.#find('note', text);
  }

  metric(
    name: string,
    value: number,
    unit: string,
    {
      better = unit === 's' || unit === 'ms' || unit === 'us' ? 'lower' : 'higher',
      predicted,
    }: { better?: Metric['better']; predicted?: number | undefined } = {},
  ): void {
    this.send({ metric: { name, value, unit, better, ...(predicted !== undefined && { predicted }) } });
  }

  table(title: string, table: BenchTable): void {
    if (table.rows.length > 0) this.send({ table: { title, ...table } });
  }

  detail(name: string, value: unknown): void {
    this.send({ detail: [name, value] });
  }

  /** What an earlier step told; undefined where it did not run. */
  earlier(step: StepName): Details {
    return this.input.earlier[step] ?? {};
  }

  /** Opens the device. @throws NoGpu for a software adapter that was not allowed. */
  async open(options: DeviceOptions = {}): Promise<Device> {
    const { adapter, allowSoftware } = this.input;
    // Asking the card each time would take long where its tool is slow.
    const known = (this.earlier('environment').device as { memoryLimit?: number } | undefined)?.memoryLimit;
    const memoryLimit = this.input.memoryLimit ?? known;
    const device = await Device.open({
      robustness: false,
      ...(adapter !== undefined && { adapter }),
      // JSON has no infinity.
      ...(typeof memoryLimit === 'number' && { memoryLimit }),
      ...options,
    });
    if (device.info.kind === 'software' && !allowSoftware) {
      const refusal = new NoGpu(device.info);
      await device.close();
      throw refusal;
    }
    this.send({ adapter: device.info });
    return device;
  }

  /**
   * Does a piece of work on a device of its own. A failure is a finding (a warning where the device is too small) and the
   * end of this piece only.
   *
   * @returns whether it succeeded.
   */
  async piece(
    what: string,
    work: (device: Device) => Promise<void>,
    options: DeviceOptions = {},
  ): Promise<boolean> {
    this.at(what);
    const device = await this.open(options);
    try {
      await work(device);
      await device.recorder.finish();
      // Where tensors are guarded, this says whether a program wrote behind one.
      await device.close();
      return true;
    } catch (error) {
      this.failed(what, error);
      return false;
    } finally {
      await device.close().catch(() => {});
    }
  }

  /** Tells a failure of a piece of work. */
  failed(what: string, error: unknown): void {
    if (isTooSmall(error)) this.warn(`${what}: not run: ${(error as RmError).message}`);
    else if (error instanceof RmError) this.wrong(`${what}: ${error.message} (${error.code})`, error.fix);
    else this.wrong(`${what}: ${reasonOf(error)}`);
  }
}

export type Step = (run: StepRun) => Promise<void>;
