import { type Device, type Journal, noJournal } from '../../engine/index.js';
import { SpillFile } from '../../model/index.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import { earlierRuns } from '../planning/earlierRuns.js';
import { measuredRates } from '../planning/measuredRates.js';
import { planRun, type RunPlan } from '../planning/plan.js';
import { type PlannedTime, plannedTime } from '../planning/timePlan.js';
import type { PruneRequest } from '../request/request.js';
import { checkpointPath, markFinished, openJournal } from '../resume/pruneCheckpoint.js';
import type { RunJournal } from '../resume/runJournal.js';
import { type DeviceLease, openDevice } from '../run/openDevice.js';
import { learnedPaces } from '../run/paces.js';
import { PhaseClock, type PhaseName } from '../run/phaseClock.js';
import type { Recipe } from '../run/recipe.js';
import type { ReportExtent } from '../run/reportExtent.js';
import { type RunHooks, runHooks } from '../run/runHooks.js';
import { StepProgress } from './stepProgress.js';

/** What all steps of one prune share: request and plan, the device, the clock and the journal. */
export class PruneRun implements AsyncDisposable {
  readonly clock: PhaseClock;
  /** Holds the new weights of offloaded layers until they are written. */
  readonly spillFile: SpillFile;
  /** The caller's options; progress names the step, and `journal` is set where the run keeps a checkpoint. */
  readonly options: PruneOptions;

  private constructor(
    readonly from: string,
    readonly to: string,
    options: PruneOptions,
    started: number,
    /** Where memory is short, its request has another selection than the caller's. */
    readonly plan: RunPlan,
    private readonly lease: DeviceLease,
    private readonly checkpoint: RunJournal | undefined,
    /** As planned before the run. */
    readonly time: PlannedTime,
  ) {
    const progress = new StepProgress(
      options.onProgress,
      stepsOf(plan.request, options),
      time.phases,
      plan.request,
    );
    this.clock = new PhaseClock(lease.device, started, progress.turn);
    this.spillFile = new SpillFile(to);
    this.options = {
      ...options,
      onProgress: event => progress.add(this.clock.outermost, event),
      ...(checkpoint && { journal: checkpoint }),
    };
    options.signal?.addEventListener('abort', this.#onAbort);
  }

  /**
   * Opens the device, decides what stays on it, and opens the journal, which goes on from a checkpoint where
   * `options.resume` says so.
   *
   * @param started performance.now() when the run began.
   * @throws RmError OUT_OF_MEMORY where no placement fits; else as Device.open and openJournal.
   */
  static async open(
    from: string,
    to: string,
    request: PruneRequest,
    options: PruneOptions,
    started: number,
  ): Promise<PruneRun> {
    const lease = await openDevice(options);
    let run: PruneRun | undefined;
    try {
      const plan = await planRun(from, options, request, lease.device);
      const { paces } = earlierRuns(options, plan.request) ?? {};
      const time = plannedTime(plan, await measuredRates(from, plan, lease.device, options), paces);
      const checkpoint = await openJournal(lease.device, to, options);
      run = new PruneRun(from, to, options, started, plan, lease, checkpoint, time);
      await run.journal.track('phases', run.clock);
      return run;
    } catch (error) {
      await (run ?? lease)[Symbol.asyncDispose]();
      throw error;
    }
  }

  get device(): Device {
    return this.lease.device;
  }

  get request(): PruneRequest {
    return this.plan.request;
  }

  get journal(): Journal {
    return this.checkpoint ?? noJournal;
  }

  /** Progress, signal and journal for the work of a step. */
  get hooks(): RunHooks {
    return runHooks(this.options);
  }

  /** Times `work` as `phase`. */
  during<T>(phase: PhaseName, work: () => Promise<T>): Promise<T> {
    return this.clock.during(phase, work);
  }

  /** The same for a result that the journal keeps: a resumed run gets it back in place of the work. */
  step<T>(phase: PhaseName, work: () => Promise<T>): Promise<T> {
    return this.clock.during(phase, () => this.journal.step(phase, work));
  }

  /** States what the result depends on. @throws RmError INVALID_ARGUMENT where a resumed run differs. */
  agree(recipe: Recipe): void {
    this.checkpoint?.agree(recipe);
  }

  /** States where this run keeps what. A chosen set of windows is the same wherever the states are. */
  move(): void {
    const { plan, request, checkpoint } = this;
    if (!checkpoint) return;
    const other = checkpoint.move({ 'selection in use': request.selection.name }, []);
    const moved = checkpoint.move({ places: plan.placement }, other ? [] : ['select']);
    if (!other && !moved) return;
    this.options.onNotice?.(
      'weights or hidden states are in other places than before: a finished selection stays, the rest begins anew',
    );
  }

  /** Records that the output, still at `target`, lacks only its name. */
  async markFinished(target: string): Promise<void> {
    if (this.checkpoint) await markFinished(this.checkpoint, this.to, target);
  }

  /** Removes the checkpoint: the output is in place. Remembers how long the work took. @param extent what was measured. */
  async finish({ extent, tokenShare }: ReportExtent): Promise<void> {
    await this.checkpoint?.finish();
    const earlier = earlierRuns(this.options, this.request);
    if (!earlier) return;
    const { phases, report } = this.time;
    // A light report of other tokens takes other time; any other extent has nothing to do with the plan's.
    const planned = phases.flatMap(phase => {
      if (phase.name !== 'evaluate') return [phase];
      const share = extent === 'none' ? 0 : tokenShare / report.tokenShare;
      return extent === report.extent ? [{ ...phase, seconds: share * phase.seconds }] : [];
    });
    await earlier.keep(learnedPaces(earlier.paces ?? {}, planned, this.clock.phases));
  }

  /** Leaves the checkpoint of an unfinished run for `resume`. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { signal } = this.options;
    signal?.removeEventListener('abort', this.#onAbort);
    if ((await this.checkpoint?.leave()) && !signal?.aborted) this.#tellKept();
    await this.lease[Symbol.asyncDispose]();
    await this.spillFile[Symbol.asyncDispose]();
  }

  /** At once: after an interrupt there may be no time to end in order. */
  readonly #onAbort = (): void => {
    if (this.checkpoint?.isKept) this.#tellKept();
  };

  #tellKept(): void {
    this.options.onNotice?.(
      `finished work is kept in ${checkpointPath(this.to)}: \`resume\` goes on from there`,
    );
  }
}

/** The outermost phases, in order, without those that only read texts. */
const stepsOf = (request: PruneRequest, { generate, report }: PruneOptions): PhaseName[] => [
  'load',
  ...(generate ? (['calibrate'] as const) : []),
  ...(request.windows && request.settings.heal !== 'auto' ? [] : (['select'] as const)),
  ...(request.method.needsCalibration ? (['fit'] as const) : []),
  ...(request.gradient ? (['heal'] as const) : []),
  ...(report === 'none' ? [] : (['evaluate'] as const)),
  'write',
  'verify',
];
