import { InvalidArgumentError } from 'commander';
import { digits, left, percent, right } from '../../bench/measure.js';
import { formatShare, type PeakRates, shareOfPeak } from '../../bench/peakRates.js';
import type { Device } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import type { KernelProfile, SectionProfile } from '../../engine/profiler.js';
import { outputError, withOutputFile } from '../../model/files/outputFolder.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';
import { withDevice } from './gpu.js';
import { storedPeak } from './storedPeak.js';

/** What the option --profile gives: true, or the path of a trace. */
export interface ProfileOptions {
  profile?: boolean | string;
  force?: boolean;
}

export const PROFILE_FLAG = '--profile [trace.json]';
export const PROFILE_TEXT =
  'print the time of every kernel to stderr; also write it as a Chrome trace (chrome://tracing, Perfetto)';

/** The value of --profile; commander gives an option with an optional value whatever word follows it. */
export function tracePath(text: string): string {
  if (text.toLowerCase().endsWith('.json')) return text;
  throw new InvalidArgumentError(
    'The trace is a .json file. Put --profile behind the other arguments, or write --profile=trace.json.',
  );
}

const dtypes = /^(?:f32|f16|bf16|u32|vec[24][fu]?)$/;

/**
 * The kernel that a program's key stands for: variant and shape class stay, what its tensors hold goes.
 * "matmul broadcast 32x32: f32 bf16 vec4" -> "matmul broadcast 32x32".
 */
export function kernelOfKey(key: string): string {
  const words = key.split(':')[0]!.split(' ');
  while (words.length > 1 && dtypes.test(words.at(-1)!)) words.pop();
  return words.join(' ');
}

/** A row of the table: all programs of one kernel. */
export interface ProfileRow extends KernelProfile {
  /** Of the time of all kernels. */
  readonly share: number;
  readonly gflops: number;
  readonly gigabytes: number;
  /** Where the adapter's peak has been measured. */
  readonly ofPeak?: number;
  readonly peak?: 'fma' | 'memory';
}

/** What a profiled command adds to its JSON. */
export interface ProfileSummary {
  /** Time of all kernels on the device. */
  readonly milliseconds: number;
  readonly kernels: readonly ProfileRow[];
  readonly sections: readonly {
    readonly section: string;
    readonly wallMilliseconds: number;
    readonly milliseconds: number;
  }[];
  readonly peak?: PeakRates;
  readonly trace?: string;
}

/** Programs by kernel, slowest first, with rates and shares. */
export function profileRows(programs: readonly KernelProfile[], peak?: PeakRates): ProfileRow[] {
  const groups = new Map<string, KernelProfile[]>();
  for (const program of programs) {
    const kernel = kernelOfKey(program.kernel);
    groups.set(kernel, [...(groups.get(kernel) ?? []), program]);
  }
  const all = programs.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
  return [...groups]
    .map(([kernel, group]): ProfileRow => {
      const sum = (field: 'calls' | 'milliseconds' | 'flops' | 'bytes') =>
        group.reduce((total, program) => total + program[field], 0);
      const [milliseconds, flops, bytes] = [sum('milliseconds'), sum('flops'), sum('bytes')];
      const reached = peak && shareOfPeak({ flops, bytes, milliseconds }, peak);
      const perSecond = (count: number) => (milliseconds > 0 ? count / milliseconds / 1e6 : 0);
      return {
        ...{ kernel, calls: sum('calls'), milliseconds, flops, bytes },
        ...{ share: all > 0 ? milliseconds / all : 0, gflops: perSecond(flops), gigabytes: perSecond(bytes) },
        ...(reached && { ofPeak: reached.share, peak: reached.of }),
      };
    })
    .sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Rows of less time than this are told together. */
const SMALL = 0.001;

/** The tables for people: by kernel, and by section where there are any. */
export function formatProfile({ milliseconds, kernels, sections, peak }: ProfileSummary): string {
  const rate = (value: number) => (value > 0 ? digits(value) : '');
  const large = kernels.filter(({ share }) => share >= SMALL);
  const columns = [
    ...[left('kernel'), right('calls'), right('ms'), right('share'), right('GFLOP/s'), right('GB/s')],
    ...(peak ? [right('of peak')] : []),
  ];
  const rows = large.map(row => [
    ...[row.kernel, `${row.calls}`, digits(row.milliseconds), percent(row.share)],
    ...[rate(row.gflops), rate(row.gigabytes)],
    ...(peak ? [formatShare(row.ofPeak, row.peak)] : []),
  ]);
  const small = kernels.slice(large.length);
  if (small.length > 0) {
    const sum = (field: 'calls' | 'milliseconds' | 'share') =>
      small.reduce((total, row) => total + row[field], 0);
    rows.push([
      ...[`${small.length} others`, `${sum('calls')}`, digits(sum('milliseconds')), percent(sum('share'))],
      ...['', ''],
      ...(peak ? [''] : []),
    ]);
  }
  const named = sections.filter(({ section }) => section !== '');
  const sectionTable = formatTable(
    [left('section'), right('wall ms'), right('kernels ms'), right('share')],
    named.map(({ section, wallMilliseconds, milliseconds: own }) => [
      ...[section, digits(wallMilliseconds), digits(own)],
      percent(milliseconds > 0 ? own / milliseconds : 0),
    ]),
  );
  return [
    formatTable(columns, rows),
    ...(named.length > 0
      ? [`${sectionTable}Kernels of sections within a section count for the inner one alone.\n`]
      : []),
    `Kernels together: ${digits(milliseconds)} ms by timestamps. While profiling each dispatch has a pass of its own, ` +
      'which takes a little longer than usual.\n' +
      'Software drivers compile a kernel during its first call, which is in its time here.' +
      (peak
        ? ''
        : '\nNo peak of this adapter is known: rm-engine bench peak measures it, then shares of it are shown here.'),
  ].join('\n');
}

/**
 * withDevice, and with --profile everything done there is profiled: the tables go to stderr when the work is done, the
 * trace to its file. Whether that is possible is decided before the work begins.
 *
 * @returns the work's result, and the summary for --json.
 * @throws RmError ADAPTER_UNSUITABLE where the adapter has no timestamp queries; OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function withProfiledDevice<T>(
  run: Run<object>,
  { profile, force = false }: ProfileOptions,
  work: (device: Device) => Promise<T>,
): Promise<{ result: T; profile?: ProfileSummary }> {
  if (!profile) return { result: await withDevice(run, work) };
  const profiling = { ...run, deviceOptions: { ...run.deviceOptions, profile: true } };
  const measured = (trace?: string) =>
    withDevice(profiling, async device => {
      requireTimestamps(device, '--profile');
      const result = await work(device);
      const summary = await summarise(run, device, trace);
      run.terminal.report(`\n${formatProfile(summary)}`);
      return { result, profile: summary };
    });
  if (profile === true) return measured();
  const outcome = await withOutputFile(profile, { force }, measured);
  run.terminal.note(`${profile}: trace for chrome://tracing or ui.perfetto.dev`);
  return { ...outcome, profile: { ...outcome.profile, trace: profile } };
}

/** @throws RmError ADAPTER_UNSUITABLE */
export function requireTimestamps(device: Device, what: string): void {
  if (device.profiler) return;
  throw new RmError(
    'ADAPTER_UNSUITABLE',
    `${device.info.description} has no timestamp queries, which ${what} needs`,
    'Choose another adapter with --adapter, or do without.',
  );
}

async function summarise(run: Run<object>, device: Device, trace?: string): Promise<ProfileSummary> {
  const profiler = device.profiler!;
  const peak = await storedPeak(device.info, run.terminal);
  const kernels = profileRows(await profiler.table(), peak);
  const sections = (await profiler.sections()).map(({ kernels: _, ...section }: SectionProfile) => section);
  if (trace !== undefined) {
    const { dropped } = await profiler
      .writeTrace(trace)
      .catch(error => Promise.reject(outputError(error, trace)));
    if (dropped > 0) run.terminal.warn(`the trace is full: its last ${dropped} dispatches are left out`);
  }
  const milliseconds = kernels.reduce((sum, row) => sum + row.milliseconds, 0);
  return { milliseconds, kernels, sections, ...(peak && { peak }) };
}
