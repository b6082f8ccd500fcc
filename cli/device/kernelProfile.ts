import { InvalidArgumentError } from 'commander';
import { digits, left, percent, right } from '../../bench/measure.js';
import { formatShare, type PeakRates, shareOfPeak } from '../../bench/peakRates.js';
import type { Device } from '../../engine/device.js';
import { RmError } from '../../engine/errors.js';
import type { KernelProfile, SectionProfile } from '../../engine/profiler.js';
import { kernelOfProgram } from '../../engine/program.js';
import { outputError } from '../../model/files/outputError.js';
import { checkOutputFile, withOutputFile } from '../../model/files/outputFile.js';
import { textKind } from '../../model/files/outputKind.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';
import { withDevice } from './gpu.js';
import { storedPeak } from './storedPeak.js';

/** Options of commands with --profile. */
export interface ProfileOptions {
  /** True, or the path of a trace. */
  profile?: boolean | string;
  force?: boolean;
}

/** A trace as `Profiler.writeTrace` begins it. */
const traceKind = textKind(
  'a trace of --profile',
  /^\{"traceEvents":\[\{"name":"thread_name","ph":"M","pid":1,"tid":1,"args":\{"name":"sections"\}\}/,
);

export const PROFILE_FLAG = '--profile [trace.json]';
export const PROFILE_TEXT =
  'print the time of each kernel on stderr; with a file also write a trace (chrome://tracing, Perfetto)';

/**
 * Parses the value of --profile. The value is optional, so commander passes whatever word follows.
 *
 * @throws InvalidArgumentError unless it is a .json file.
 */
export function tracePath(text: string): string {
  if (text.toLowerCase().endsWith('.json')) return text;
  throw new InvalidArgumentError(
    'The trace is a .json file. Put --profile after the other arguments, or write --profile=trace.json.',
  );
}

/** A row of the table: all programs of one kernel. */
interface ProfileRow extends KernelProfile {
  /** Share of the time of all kernels. */
  readonly share: number;
  /** Per second. */
  readonly gflops: number;
  /** Per second. */
  readonly gigabytes: number;
  /** Share of the nearer peak, once `bench peak` has measured this adapter. */
  readonly ofPeak?: number;
  readonly peak?: 'fma' | 'memory';
}

/** The part that a profiled command adds to its JSON. */
export interface ProfileSummary {
  /** Time of all kernels on the device, in total. */
  readonly milliseconds: number;
  readonly kernels: readonly ProfileRow[];
  readonly sections: readonly {
    readonly section: string;
    readonly wallMilliseconds: number;
    readonly milliseconds: number;
    readonly submits: number;
    readonly waits: number;
    readonly batches: number;
    readonly layers: number;
  }[];
  readonly peak?: PeakRates;
  readonly trace?: string;
}

/** Sums programs by kernel, slowest first, with rates and shares. */
export function profileRows(programs: readonly KernelProfile[], peak?: PeakRates): ProfileRow[] {
  const groups = new Map<string, KernelProfile[]>();
  for (const program of programs) {
    const kernel = kernelOfProgram(program.kernel);
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

/** Kernels with a smaller share of the time share one row. */
const SMALL = 0.001;

/** Submits and waits of a section, with those inside it, for each of its batches or runs of layers. */
function perRun(sections: ProfileSummary['sections'], path: string, of: 'batches' | 'layers'): string {
  const sum = (field: 'submits' | 'waits' | 'batches' | 'layers') =>
    sections
      .filter(({ section }) => section === path || section.startsWith(`${path}/`))
      .reduce((total, section) => total + section[field], 0);
  const runs = sum(of);
  return runs > 0 ? `${digits(sum('submits') / runs)}, ${digits(sum('waits') / runs)}` : '';
}

/** The tables for people: by kernel, and by section if there are any. */
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
    [
      left('section'),
      right('wall ms'),
      right('kernels ms'),
      right('share'),
      ...[right('submits'), right('waits'), right('batches'), right('a batch'), right('a layer')],
    ],
    named.map(({ section, wallMilliseconds, milliseconds: own, submits, waits, batches }) => [
      ...[section, digits(wallMilliseconds), digits(own)],
      ...[percent(milliseconds > 0 ? own / milliseconds : 0), `${submits}`, `${waits}`],
      ...(batches > 0
        ? [`${batches}`, perRun(named, section, 'batches'), perRun(named, section, 'layers')]
        : ['', '', '']),
    ]),
  );
  return [
    formatTable(columns, rows),
    ...(named.length > 0
      ? [
          `${sectionTable}Kernels, submits and waits in a section within another count for the inner section only. The last columns have submits and
waits a batch, and a run of a layer over a batch, with those of inner sections.\n`,
        ]
      : []),
    `All kernels: ${digits(milliseconds)} ms by timestamps. Profiling gives each dispatch a pass of its own, ` +
      'which takes a little longer than usual.\n' +
      'Software drivers compile a kernel during its first call; its time here includes that.' +
      (peak
        ? ''
        : "\nThis adapter's peak is unknown. Run rm-engine bench peak once to see shares of it here."),
  ].join('\n');
}

/** Checks the file of --profile before any work. @throws RmError OUTPUT_EXISTS, OUTPUT_FAILED. */
export async function checkTrace(
  { profile, force = false }: ProfileOptions,
  protect: readonly string[],
): Promise<void> {
  if (typeof profile === 'string') await checkOutputFile(profile, traceKind, { force, protect });
}

/**
 * Does withDevice; with --profile it also profiles the work, prints the tables to stderr when the work is done and
 * writes the trace to its file. Checks that this is possible before the work begins.
 *
 * @param protect inputs and other outputs, which the trace may not touch.
 * @returns the work's result, and the summary for --json.
 * @throws RmError ADAPTER_UNSUITABLE if the adapter has no timestamp queries; OUTPUT_EXISTS, OUTPUT_FAILED.
 */
export async function withProfiledDevice<T>(
  run: Run<object>,
  { profile, force = false, protect }: ProfileOptions & { protect: readonly string[] },
  work: (device: Device, again: boolean) => Promise<T>,
): Promise<{ result: T; profile?: ProfileSummary }> {
  if (!profile) return { result: await withDevice(run, work) };
  const profiling = { ...run, deviceOptions: { ...run.deviceOptions, profile: true } };
  const measure = (trace?: string) =>
    withDevice(profiling, async (device, again) => {
      requireTimestamps(device, '--profile');
      const result = await work(device, again);
      const summary = await summarise(run, device, trace);
      run.terminal.report(`\n${formatProfile(summary)}`);
      return { result, profile: summary };
    });
  if (profile === true) return measure();
  const outcome = await withOutputFile(profile, traceKind, { force, protect }, measure);
  run.terminal.note(`${profile}: trace for chrome://tracing or ui.perfetto.dev`);
  return { ...outcome, profile: { ...outcome.profile, trace: profile } };
}

/** @throws RmError ADAPTER_UNSUITABLE */
export function requireTimestamps(device: Device, what: string): void {
  if (device.profiler) return;
  throw new RmError(
    'ADAPTER_UNSUITABLE',
    `${device.info.description} has no timestamp queries, which ${what} needs`,
    'Choose another adapter with --adapter, or leave this out.',
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
    if (dropped > 0) run.terminal.warn(`the trace is full: it lacks the last ${dropped} dispatches`);
  }
  const milliseconds = kernels.reduce((sum, row) => sum + row.milliseconds, 0);
  return { milliseconds, kernels, sections, ...(peak && { peak }) };
}
