/** Alternating measurements: ours, a peer, ours, the next peer, ours, ... so that drift of the machine affects all alike. */
import { setTimeout as delay } from 'node:timers/promises';
import { median } from '../measure.js';
import type { Child, PrepareReply } from './child.js';
import { type Task, workOf } from './workloads.js';

/** A program that takes part. */
export interface Entrant {
  readonly name: string;
  /** 'outside' is reported, but not in the ratio. */
  readonly role: 'ours' | 'peer' | 'outside';
  readonly child: Child;
}

export interface Comparison {
  /** GFLOP/s, for language models tokens/s. */
  readonly ours: number;
  readonly peers: Readonly<Record<string, number>>;
  /** ours / best peer; null without a peer. */
  readonly ratio: number | null;
  /** Programs on other devices. */
  readonly outside: Readonly<Record<string, number>>;
}

export interface MeasureOptions {
  /** Rounds. In each, every other program gets one sample, and ours one more than there are others. */
  readonly samples: number;
  readonly warmups: number;
  /** Runs of a sample (default: chosen by time). */
  readonly repeats?: number;
  /** Called when a program fails; this task goes on without it. */
  onFailure(entrant: Entrant, reason: string): void;
  onReady?(entrant: Entrant, reply: PrepareReply): void;
}

/** Pause in which threads that spin for work go to sleep. */
const QUIET_MS = 50;

const significant = (value: number): number => Number(value.toPrecision(4));

/**
 * Measures the median rate of every program on one task.
 *
 * @throws Error when ours fails.
 */
export async function measure(
  task: Task,
  entrants: readonly Entrant[],
  { samples, warmups, repeats, onFailure, onReady }: MeasureOptions,
): Promise<Comparison> {
  const ready = new Map<Entrant, { repeats: number; times: number[] }>();
  for (const entrant of entrants) {
    try {
      const request = { prepare: task, warmups, ...(repeats && { repeats }) };
      const reply = await entrant.child.prepare(request);
      ready.set(entrant, { repeats: reply.repeats, times: [] });
      onReady?.(entrant, reply);
    } catch (error) {
      if (entrant.role === 'ours') throw error;
      onFailure(entrant, (error as Error).message);
    }
  }
  const sample = async (entrant: Entrant) => {
    const state = ready.get(entrant);
    if (!state) return;
    try {
      await delay(QUIET_MS);
      state.times.push(await entrant.child.sample(state.repeats));
    } catch (error) {
      if (entrant.role === 'ours') throw error;
      ready.delete(entrant);
      onFailure(entrant, (error as Error).message);
    }
  };
  const ours = entrants.find(({ role }) => role === 'ours')!;
  const others = entrants.filter(({ role }) => role !== 'ours');
  for (let round = 0; round < samples; round++) {
    await sample(ours);
    for (const other of others) {
      if (!ready.has(other)) continue;
      await sample(other);
      await sample(ours);
    }
  }
  const rates = (role: Entrant['role']) =>
    Object.fromEntries(
      [...ready]
        .filter(([entrant]) => entrant.role === role)
        .map(([entrant, { times }]) => [entrant.name, significant((workOf(task) / median(times)) * 1000)]),
    );
  const peers = rates('peer');
  const own = Object.values(rates('ours'))[0]!;
  const best = Math.max(...Object.values(peers));
  return {
    ours: own,
    peers,
    ratio: best > 0 ? significant(own / best) : null,
    outside: rates('outside'),
  };
}
