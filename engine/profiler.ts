import { writeFile } from 'node:fs/promises';

const CAPACITY = 2048;
/** Dispatches that a trace holds at most; the tables count all. */
const MOST_SPANS = 100_000;

/** GPU time and work of all dispatches of one kernel. */
export interface KernelProfile {
  /** The program's key. */
  readonly kernel: string;
  readonly calls: number;
  readonly milliseconds: number;
  readonly flops: number;
  readonly bytes: number;
}

/** The dispatches recorded in one section, without those of nested sections. */
export interface SectionProfile {
  /** "fit/statistics"; "" for dispatches outside all sections. */
  readonly section: string;
  /** Wall time from beginning to end, summed, including nested sections; 0 for "". */
  readonly wallMilliseconds: number;
  /** GPU time of its kernels. */
  readonly milliseconds: number;
  /** How often work was submitted, and how often the host waited for submitted work or for a download. */
  readonly submits: number;
  readonly waits: number;
  /** Batches that were visited, and runs of a layer over a batch. */
  readonly batches: number;
  readonly layers: number;
  /** Slowest first. */
  readonly kernels: readonly KernelProfile[];
}

type Counted = 'submits' | 'waits' | 'batches' | 'layers';

const noCounts = (): Record<Counted, number> => ({ submits: 0, waits: 0, batches: 0, layers: 0 });

type Total = { -readonly [Field in keyof KernelProfile]: KernelProfile[Field] } & {
  readonly section: string;
};

interface Span {
  readonly total: Total;
  readonly start: number;
  readonly end: number;
  readonly flops: number;
  readonly bytes: number;
}

interface Recorded {
  readonly total: Total;
  readonly flops: number;
  readonly bytes: number;
}

/** The part of a device that the profiler uses. */
interface ProfiledDevice {
  readonly gpu: GPUDevice;
  /** Submits all recorded work and waits for it. */
  finish(): Promise<void>;
}

const slowestFirst = <T extends { milliseconds: number }>(list: T[]): T[] =>
  list.sort((a, b) => b.milliseconds - a.milliseconds);

/**
 * Times every dispatch with timestamp queries. Each dispatch then needs its own pass, so the total is a little larger
 * than without profiling.
 */
export class Profiler {
  readonly #device: ProfiledDevice;
  readonly #querySet: GPUQuerySet;
  readonly #resolved: GPUBuffer;
  /** By section, then by kernel. */
  readonly #totals = new Map<string, Map<string, Total>>();
  readonly #walls = new Map<string, number>();
  /** By section. */
  readonly #counts = new Map<string, Record<Counted, number>>();
  readonly #spans: Span[] = [];
  #droppedSpans = 0;
  #section = '';
  #recorded: Recorded[] = [];
  #readback: { buffer: GPUBuffer; recorded: Recorded[] } | undefined;
  #pending: Promise<void>[] = [];

  /** @internal */
  constructor(device: ProfiledDevice) {
    this.#device = device;
    this.#querySet = device.gpu.createQuerySet({ type: 'timestamp', count: 2 * CAPACITY });
    this.#resolved = device.gpu.createBuffer({
      label: 'timestamps',
      size: 16 * CAPACITY,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
  }

  /** Whether the recorder must submit before the next dispatch. */
  get full(): boolean {
    return this.#recorded.length === CAPACITY;
  }

  /** Begins a section inside the current one; disposing the result ends it. End inner sections before outer ones. */
  section(name: string): Disposable {
    const outer = this.#section;
    const path = outer ? `${outer}/${name}` : name;
    const began = performance.now();
    this.#walls.set(path, this.#walls.get(path) ?? 0);
    this.#section = path;
    return {
      [Symbol.dispose]: () => {
        this.#section = outer;
        this.#walls.set(path, (this.#walls.get(path) ?? 0) + performance.now() - began);
      },
    };
  }

  /** @internal Counts one of these in the current section. */
  count(what: Counted): void {
    const counts = this.#counts.get(this.#section) ?? noCounts();
    counts[what]++;
    this.#counts.set(this.#section, counts);
  }

  /** Reserves the timestamp slots of the next dispatch. */
  next(kernel: string, flops: number, bytes: number): GPUComputePassTimestampWrites {
    const total = this.#total(kernel);
    total.calls++;
    total.flops += flops;
    total.bytes += bytes;
    const slot = 2 * this.#recorded.length;
    this.#recorded.push({ total, flops, bytes });
    return { querySet: this.#querySet, beginningOfPassWriteIndex: slot, endOfPassWriteIndex: slot + 1 };
  }

  /** Records the readback of the slots used since the last submit. */
  resolve(encoder: GPUCommandEncoder): void {
    const recorded = this.#recorded;
    if (!recorded.length) return;
    this.#recorded = [];
    const size = 16 * recorded.length;
    const buffer = this.#device.gpu.createBuffer({
      size,
      usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ,
    });
    encoder.resolveQuerySet(this.#querySet, 0, 2 * recorded.length, this.#resolved, 0);
    encoder.copyBufferToBuffer(this.#resolved, 0, buffer, 0, size);
    this.#readback = { buffer, recorded };
  }

  /** Starts the readback that `resolve` recorded; call it after the submit. */
  collect(): void {
    const readback = this.#readback;
    if (!readback) return;
    this.#readback = undefined;
    const { buffer, recorded } = readback;
    this.#pending.push(
      buffer
        .mapAsync(GPUMapMode.READ)
        .then(() => {
          const times = new BigUint64Array(buffer.getMappedRange());
          recorded.forEach(({ total, flops, bytes }, i) => {
            const start = Number(times[2 * i]);
            // A GPU may set its clock back between the two.
            const end = Math.max(start, Number(times[2 * i + 1]));
            total.milliseconds += (end - start) / 1e6;
            if (this.#spans.length < MOST_SPANS) this.#spans.push({ total, start, end, flops, bytes });
            else this.#droppedSpans++;
          });
        })
        // Only a lost or closed device rejects, and the device reports that itself.
        .catch(() => {})
        .finally(() => buffer.destroy()),
    );
  }

  /** Returns the totals of each kernel, slowest first. */
  async table(): Promise<KernelProfile[]> {
    await this.#settle();
    const kernels = new Map<string, { -readonly [Field in keyof KernelProfile]: KernelProfile[Field] }>();
    for (const { section: _, ...total } of this.#allTotals()) {
      const sum = kernels.get(total.kernel);
      if (!sum) {
        kernels.set(total.kernel, total);
        continue;
      }
      for (const field of ['calls', 'milliseconds', 'flops', 'bytes'] as const) sum[field] += total[field];
    }
    return slowestFirst([...kernels.values()]);
  }

  /** Returns the totals of each section, in the order in which they first began. */
  async sections(): Promise<SectionProfile[]> {
    await this.#settle();
    const names = new Set([...this.#walls.keys(), ...this.#totals.keys()]);
    return [...names].map(section => {
      const kernels = [...(this.#totals.get(section)?.values() ?? [])].map(
        ({ section: _, ...kernel }) => kernel,
      );
      return {
        section,
        wallMilliseconds: this.#walls.get(section) ?? 0,
        milliseconds: kernels.reduce((sum, { milliseconds }) => sum + milliseconds, 0),
        ...(this.#counts.get(section) ?? noCounts()),
        kernels: slowestFirst(kernels),
      };
    });
  }

  /**
   * Writes a trace for chrome://tracing or Perfetto: the dispatches, with the sections above them (times in microseconds).
   *
   * @returns how many dispatches the trace holds and how many it had no room for.
   */
  async writeTrace(path: string): Promise<{ written: number; dropped: number }> {
    await this.#settle();
    const spans = this.#spans.sort((a, b) => a.start - b.start);
    const origin = spans[0]?.start ?? 0;
    const event = (tid: number, name: string, start: number, end: number, args?: object) => ({
      ...{ name, ph: 'X', pid: 1, tid, ts: (start - origin) / 1e3, dur: (end - start) / 1e3 },
      ...(args && { args }),
    });
    const named = (tid: number, name: string) => ({
      ...{ name: 'thread_name', ph: 'M', pid: 1, tid, args: { name } },
    });
    const traceEvents = [
      named(1, 'sections'),
      named(2, 'dispatches'),
      ...sectionRuns(spans).map(({ name, start, end }) => event(1, name, start, end)),
      ...spans.map(({ total, start, end, flops, bytes }) =>
        event(2, total.kernel, start, end, { flops, bytes }),
      ),
    ];
    await writeFile(path, JSON.stringify({ traceEvents, displayTimeUnit: 'ms' }));
    return { written: spans.length, dropped: this.#droppedSpans };
  }

  /** Forgets all times measured so far. */
  reset(): void {
    this.#totals.clear();
    this.#walls.clear();
    this.#counts.clear();
    this.#spans.length = 0;
    this.#droppedSpans = 0;
  }

  /** Frees the query sets; `Device.close` calls this. */
  close(): void {
    this.#querySet.destroy();
    this.#resolved.destroy();
  }

  #total(kernel: string): Total {
    let kernels = this.#totals.get(this.#section);
    if (!kernels) {
      kernels = new Map();
      this.#totals.set(this.#section, kernels);
    }
    let total = kernels.get(kernel);
    if (!total) {
      total = { section: this.#section, kernel, calls: 0, milliseconds: 0, flops: 0, bytes: 0 };
      kernels.set(kernel, total);
    }
    return total;
  }

  #allTotals(): Total[] {
    return [...this.#totals.values()].flatMap(kernels => [...kernels.values()]);
  }

  async #settle(): Promise<void> {
    await this.#device.finish();
    await Promise.all(this.#pending.splice(0));
  }
}

/** Every visit to a section, from its first to its last dispatch; outer sections come before inner ones. */
function sectionRuns(spans: readonly Span[]): { name: string; start: number; end: number }[] {
  const runs: { name: string; start: number; end: number }[] = [];
  const paths = spans.map(({ total }) => (total.section ? total.section.split('/') : []));
  const deepest = paths.reduce((most, { length }) => Math.max(most, length), 0);
  for (let depth = 1; depth <= deepest; depth++) {
    let current: { path: string; name: string; start: number; end: number } | undefined;
    spans.forEach(({ start, end }, i) => {
      const parts = paths[i]!;
      const path = parts.length < depth ? undefined : parts.slice(0, depth).join('/');
      if (current && current.path === path) {
        current.end = Math.max(current.end, end);
        return;
      }
      current = path === undefined ? undefined : { path, name: parts[depth - 1]!, start, end };
      if (current) runs.push(current);
    });
  }
  return runs.map(({ name, start, end }) => ({ name, start, end }));
}
