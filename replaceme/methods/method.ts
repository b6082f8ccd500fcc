import type { Architecture } from '../../model/index.js';
import type { FitCost, FitRun } from '../fits/fitCost.js';
import type { AccumulateContext, Repair, RepairContext } from '../fits/repair.js';
import { cosineSettings, methodSettings } from '../options/pruneSettings.js';
import { type DeclaredSetting, listed } from '../options/setting.js';
import type { Window } from '../run/window.js';

/** How a model is repaired when layers are removed. One file per method, one line in methods/index.ts. */
export interface Method {
  readonly name: string;
  readonly summary: string;
  /** The paper it comes from. */
  readonly source: string;
  /** Which layers it removes unless told: the name of a selection (selections/index.ts). */
  readonly selection: string;
  /** The settings that it reads, of those that only some methods do (options/pruneSettings.ts). */
  readonly reads?: readonly DeclaredSetting[];
  /** False where the repair reads no calibration tokens. */
  readonly needsCalibration: boolean;
  /** What its fits before one cut cost, for plans; left out where it fits nothing to the tokens. */
  fitCost?(run: FitRun): FitCost;
  /** What it changes besides healing, for plans: whole layers, or all projections before a cut (default: of one layer). */
  readonly changes?: 'layers' | 'all before';
  /** True where it needs several layers at a time, so that layers cannot be streamed. */
  readonly wholeModel?: true;
  /** The same without healing, where it always heals: a first look at candidates. */
  readonly unhealed?: Method;
  /** Why it cannot prune such a model; undefined where it can. */
  refusal?(arch: Architecture): string | undefined;
  /** Why its result cannot be written as an ordinary model; left out where it can. */
  readonly inMemoryOnly?: string;
  /**
   * Sums over a part of the tokens what `repair` can recall as a sum over all; left out where it recalls nothing. Says
   * false where there is more to sum, which depends on these sums over all tokens.
   */
  accumulate?(context: AccumulateContext, windows: readonly Window[]): Promise<boolean>;
  /** Why there is nothing to sum over parts of the tokens, where that is not plain: "..., so they must all be on one machine". */
  readonly notSummed?: string;
  /** New weights for the layers that stay; `windows` ascend and do not touch. */
  repair(context: RepairContext, windows: readonly Window[]): Promise<Repair>;
}

/** Whether a repair by these settings heals the layers after the cut. */
export const healsAfter = ({
  method,
  settings,
}: {
  readonly method: Pick<Method, 'unhealed'>;
  readonly settings: Pick<RepairContext['settings'], 'heal'>;
}): boolean => settings.heal !== false || method.unhealed !== undefined;

/** The settings that only some methods read. */
const someRead = listed(methodSettings, cosineSettings);

/** The settings that belong to the method `name`. */
export const settingsOf = (name: string): DeclaredSetting[] => someRead.filter(({ of }) => of === name);

/** The settings of other methods. */
export const unreadSettings = ({ reads = [] }: Pick<Method, 'reads'>): DeclaredSetting[] =>
  someRead.filter(setting => !reads.includes(setting));
