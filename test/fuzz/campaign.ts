import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Child, type Located } from './childProcess.js';
import { type Effort, minimise } from './minimise.js';
import { Random } from './random.js';
import {
  defaultLimits,
  type Fault,
  inputAt,
  isFault,
  type Limits,
  loadTarget,
  type Outcome,
} from './target.js';

/** A fault with the smallest input found that shows it. */
export interface Finding {
  readonly fault: Fault;
  /** Index of the input among those of the seed. */
  readonly index: number;
  readonly input: Uint8Array;
  /** Bytes of the input before it was made smaller. */
  readonly originalBytes: number;
  /** False where the input alone, in a new process, did no harm: then it was not made smaller. */
  readonly repeats: boolean;
}

/** What came of fuzzing one target. */
export interface CampaignResult {
  readonly inputs: number;
  /** Inputs that were read, and that were refused by an RmError. */
  readonly read: number;
  readonly refused: number;
  readonly findings: readonly Finding[];
}

export interface CampaignOptions {
  readonly seconds: number;
  readonly seed: number;
  readonly limits?: Partial<Limits> | undefined;
  readonly effort?: Effort | undefined;
}

const defaultEffort: Effort = { milliseconds: 30_000, tries: 2000 };

export async function limitsOf(module: string, limits: Partial<Limits> = {}): Promise<Limits> {
  const { seconds = defaultLimits.seconds } = await loadTarget(module);
  return { ...defaultLimits, seconds, ...limits };
}

/** Tries single inputs; a process that an input has harmed is replaced. */
export class Prober {
  #child: Child | undefined;

  constructor(private readonly limits = defaultLimits) {}

  async outcome(module: string, input: Uint8Array): Promise<Outcome> {
    this.#child ??= new Child(this.limits);
    const reply = await this.#child.run({ module, input });
    const outcome = 'death' in reply ? reply.death : reply.outcome;
    if ('death' in reply || (isFault(outcome) && outcome.kind === 'memory')) await this.stop();
    return outcome;
  }

  async stop(): Promise<void> {
    await this.#child?.stop();
    this.#child = undefined;
  }
}

/** Fuzzes one target: one child after another tries the inputs of the seed until the time is over. */
export async function campaign(
  module: string,
  { seconds, seed, limits, effort = defaultEffort }: CampaignOptions,
): Promise<CampaignResult> {
  const actual = await limitsOf(module, limits);
  const sums = { inputs: 0, read: 0, refused: 0 };
  const faults = new Map<string, Located>();
  let milliseconds = 1000 * seconds;
  for (let from = 0; milliseconds > 0; ) {
    const started = performance.now();
    const child = new Child(actual);
    const reply = await child.run({ module, seed, from, milliseconds });
    const found = [...child.faults];
    if ('death' in reply) found.push({ index: reply.index, fault: reply.death });
    await child.stop();
    milliseconds -= 'death' in reply ? performance.now() - started : reply.milliseconds;
    const next = 'death' in reply ? reply.index + 1 : reply.next;
    for (const entry of found) if (!faults.has(entry.fault.key)) faults.set(entry.fault.key, entry);
    sums.inputs += next - from;
    sums.read += reply.read;
    sums.refused += reply.refused;
    from = next;
  }
  const findings: Finding[] = [];
  for (const { index, fault } of faults.values()) {
    findings.push(await examine(module, { index, fault, seed }, actual, effort));
  }
  return { ...sums, findings };
}

/** Makes the input of a fault again, tries it alone, and makes it smaller. */
async function examine(
  module: string,
  { index, fault, seed }: Located & { seed: number },
  limits: Limits,
  effort: Effort,
): Promise<Finding> {
  const target = await loadTarget(module);
  const folder = mkdtempSync(join(tmpdir(), 'rm-engine-fuzz-'));
  const prober = new Prober(limits);
  const fails = async (input: Uint8Array) => {
    const outcome = await prober.outcome(module, input);
    return isFault(outcome) && outcome.key === fault.key;
  };
  try {
    const original = inputAt(target, await target.corpus(folder), new Random(seed, index));
    const repeats = await fails(original);
    const input = repeats ? await minimise(original, fails, effort) : original;
    return { fault, index, input, originalBytes: original.length, repeats };
  } finally {
    await prober.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
