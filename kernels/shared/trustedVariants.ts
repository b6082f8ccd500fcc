import {
  asF32,
  type Device,
  ensure,
  type Form,
  listOf,
  type Recorder,
  RmError,
  readBack,
  record,
  Scope,
  type Tensor,
  tableOf,
  text,
} from '../../engine/index.js';

/**
 * Drivers miscompile. Before results of a variant leave the device, each of its programs is run on data of its own, once
 * per device, and compared with the host. A variant with a wrong program is no longer chosen.
 */

/** What has been found on a device; kept between processes by those who call `checkVariants`. */
export interface Verdicts {
  /** Keys of programs that compute what the host computes. */
  readonly right: readonly string[];
  /** By variant, as in "matmul tiled 128x64": what its wrong program computed. */
  readonly wrong: Readonly<Record<string, string>>;
}

/** The form of verdicts in a file. */
export const verdictsForm: Form<Verdicts> = record({ right: listOf(text), wrong: tableOf(text) });

/** A program of a variant at its first use on a device. */
interface VariantUse<Details> {
  readonly kernel: string;
  /** The name of the variant. */
  readonly variant: string;
  /** Everything that the kernel's check needs to run the same program. */
  readonly details: Details;
}

/** A run of a program, recorded by its check. */
export interface CheckedRun {
  /** f32 */
  readonly outputs: readonly Tensor[];
  /** The largest error of the outputs' values, in units of the largest that is accepted. */
  error(...values: Float32Array[]): number;
}

/** Records a run of a use's program on data of its own. By kernel, since each has other operands. */
export type VariantChecks = Readonly<
  Record<string, (rec: Recorder, scope: Scope, details: never) => CheckedRun>
>;

interface Checking {
  readonly checks: VariantChecks;
  /** Keys of programs that need no check: right ones, and those being checked. */
  readonly settled: Set<string>;
  readonly right: Set<string>;
  readonly wrong: Map<string, string>;
  readonly goesOn: boolean;
}

const devices = new WeakMap<Device, Checking>();

/**
 * From now on every program of a variant is compared with the host at its first use on this device. Where one is wrong, the
 * device fails with SELF_TEST_FAILED before a result of it is read; the device that is opened next can do without it.
 *
 * @param known verdicts of earlier processes on the same device, driver and version of rm-engine.
 * @param goesOn the device does not fail; `verdictsOf` tells after the next wait. For measurements.
 */
export function checkVariants(
  device: Device,
  checks: VariantChecks,
  known: Verdicts = { right: [], wrong: {} },
  { goesOn = false }: { goesOn?: boolean } = {},
): void {
  const problem = verdictsForm(known, 'verdicts');
  ensure(problem === undefined, `${problem}`, 'Pass what verdictsOf returned.');
  const wrong = new Map(Object.entries(known.wrong));
  devices.set(device, { checks, settled: new Set(known.right), right: new Set(known.right), wrong, goesOn });
}

/** What is known of this device's variants; undefined unless they are checked. */
export function verdictsOf(device: Device): Verdicts | undefined {
  const state = devices.get(device);
  return state && { right: [...state.right], wrong: Object.fromEntries(state.wrong) };
}

/**
 * Whether a variant has been found wrong on this device, or the one that it extends: 'tiled 64x64 split 4' falls with
 * 'tiled 64x64'.
 */
export function isWrong(device: Device, kernel: string, variant: string): boolean {
  const wrong = devices.get(device)?.wrong;
  if (!wrong || wrong.size === 0) return false;
  const words = variant.split(' ');
  return words.some((_, i) => wrong.has([kernel, ...words.slice(0, i + 1)].join(' ')));
}

/**
 * The choice, or where it has been found wrong on this device the first of `variants` that has not.
 *
 * @throws RmError SELF_TEST_FAILED where all are wrong.
 */
export function notWrong<V>(
  device: Device,
  kernel: string,
  choice: V,
  nameOf: (variant: V) => string,
  variants: () => readonly V[],
): V {
  // Asked for every dispatch: names are made only where something is wrong.
  if (!devices.get(device)?.wrong.size) return choice;
  const usable = (variant: V) => !isWrong(device, kernel, nameOf(variant));
  if (usable(choice)) return choice;
  const other = variants().find(usable);
  if (other !== undefined) return other;
  throw new RmError(
    'SELF_TEST_FAILED',
    `all variants of ${kernel} compute wrong results on ${device.info.description}`,
    'Update the graphics driver or choose another `adapter`; report it with the output of: rm-engine doctor',
  );
}

/** The key of a program whose code depends on how the device computes exactly. */
export const exactKey = ({ programs }: Device, program: string): string =>
  programs.exact === 'integer' ? `${program} by integers` : program;

/**
 * Checks a program at its first use on this device: to be called before each dispatch of a variant's program.
 *
 * @param program its key.
 * @param use is asked only where a check is due.
 */
export function checkFirstUse<Details>(
  rec: Recorder,
  device: Device,
  program: string,
  use: () => VariantUse<Details>,
): void {
  const state = devices.get(device);
  if (!state || state.settled.has(program)) return;
  const { kernel, variant, details } = use();
  state.settled.add(program);
  const check = state.checks[kernel];
  // A variant that is known to be wrong runs only where a measurement asks for it.
  if (!check || isWrong(device, kernel, variant)) return;
  // Read before the scope returns the buffers to the pool; what comes after in the queue cannot change them earlier.
  using scope = new Scope(device);
  let run: CheckedRun;
  try {
    run = check(rec, scope, details as never);
  } catch (error) {
    // A few megabytes are not there: the next use will try again.
    if (!(error instanceof RmError && error.code === 'OUT_OF_MEMORY')) throw error;
    state.settled.delete(program);
    return;
  }
  const values = Promise.all(run.outputs.map(readBack));
  const verdict = values.then(
    parts => judge(device, state, `${kernel} ${variant}`, program, run.error(...parts.map(asF32))),
    // Only a lost device answers nothing, and it says so itself.
    () => undefined,
  );
  device.expect(verdict);
}

function judge(
  device: Device,
  state: Checking,
  variant: string,
  program: string,
  error: number,
): RmError | undefined {
  // NaN is wrong too.
  if (error <= 1) {
    state.right.add(program);
    return undefined;
  }
  const size = Number.isFinite(error)
    ? `${error.toPrecision(2)} times the accepted error`
    : 'no finite numbers';
  state.wrong.set(variant, `${program}: ${size}`);
  if (state.goesOn) return undefined;
  return new RmError(
    'SELF_TEST_FAILED',
    `the kernel variant '${variant}' computes wrong results on ${device.info.description} (${program}: ${size})`,
    'Run again: rm-engine will do without it. Please report it with the output of: rm-engine doctor --json',
  );
}
