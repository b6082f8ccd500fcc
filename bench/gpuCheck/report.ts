import type { AdapterInfo } from '../../engine/index.js';
import type { BenchTable, Metric } from '../measure.js';

/** The steps of `gpu-check`, in their order. */
export const stepNames = [
  ...(['environment', 'correctness', 'peak', 'kernels', 'model', 'solve', 'prune', 'stress'] as const),
];
export type StepName = (typeof stepNames)[number];

/** Marks the file; the number changes with its form. */
export const FORMAT = 'rm-engine gpu-check 1';

/** What a step has to say: a wrong result (the check fails), something to look at, or something to know. */
export interface Finding {
  readonly level: 'wrong' | 'warning' | 'note';
  readonly text: string;
  /** What to do. */
  readonly fix?: string;
}

/** Plain JSON data of a step. */
export type Details = Readonly<Record<string, unknown>>;

export interface StepReport {
  readonly step: StepName;
  /**
   * 'done' where the step came to its end; 'cut' where it was too slow and was ended; 'failed' where its process crashed,
   * hung or threw; 'skipped' where it did not run.
   */
  readonly status: 'done' | 'cut' | 'failed' | 'skipped';
  readonly seconds: number;
  /** After these seconds the step begins nothing more. */
  readonly limitSeconds: number;
  readonly findings: readonly Finding[];
  /** Numbers by name, which `gpu-check compare` puts side by side. */
  readonly metrics: readonly Metric[];
  /** For people: what gpu-check.md shows. */
  readonly tables: readonly (BenchTable & { readonly title: string })[];
  /** What else a step found out, by name. */
  readonly details: Details;
  /** The end of what a failed step's process said on stderr. */
  readonly stderr?: string;
}

/** What gpu-check.json holds; docs/gpu-check.md describes it. */
export interface GpuCheckReport {
  readonly format: typeof FORMAT;
  /** Of rm-engine. */
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  /** ISO 8601, when the check began. */
  readonly date: string;
  readonly budgetSeconds: number;
  /** So far. */
  readonly seconds: number;
  /** Whether no step is left to run. */
  readonly complete: boolean;
  /** The adapter that was checked; null where none was opened. */
  readonly adapter: AdapterInfo | null;
  readonly steps: readonly StepReport[];
}

/** 'wrong' where anything is wrong; 'partly' where nothing is, but steps were cut or skipped, or are still to run. */
export type Verdict = 'right' | 'partly' | 'wrong';

export const isWrong = ({ status, findings }: StepReport): boolean =>
  status === 'failed' || findings.some(({ level }) => level === 'wrong');

export function verdictOf({ steps, complete }: Pick<GpuCheckReport, 'steps' | 'complete'>): Verdict {
  if (steps.some(isWrong)) return 'wrong';
  return complete && steps.every(({ status }) => status === 'done') ? 'right' : 'partly';
}

/** What a step sends while it runs, so that nothing is lost where it ends early. */
export type StepEvent =
  | { readonly finding: Finding }
  | { readonly metric: Metric }
  | { readonly table: BenchTable & { readonly title: string } }
  | { readonly detail: readonly [name: string, value: unknown] }
  | { readonly adapter: AdapterInfo }
  /** There is no adapter, or no GPU and a software adapter was not allowed. */
  | { readonly refused: { readonly message: string; readonly fix: string } }
  | { readonly at: string }
  | { readonly end: 'done' | 'failed' };

/** What a step begins with. */
export interface StepInput {
  readonly step: StepName;
  /** After so many seconds it begins nothing more. */
  readonly seconds: number;
  readonly adapter?: string | undefined;
  readonly memoryLimit?: number | undefined;
  readonly allowSoftware: boolean;
  /** A temporary folder that all steps share. */
  readonly folder: string;
  /** The words that start the command line: Node and its main file. */
  readonly command: readonly string[];
  /** What the steps before have told, by step and name. */
  readonly earlier: Readonly<Partial<Record<StepName, Details>>>;
}
