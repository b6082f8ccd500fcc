import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Device, RmError } from '../../engine/index.js';
import { Model, SpillFile, type TextReader } from '../../model/index.js';
import { HiddenStates, keepStates, LentStates, roomFor } from '../activations/hiddenStates.js';
import { PrunedModel } from '../activations/prunedModel.js';
import type { CalibrationBatch } from '../calibration/calibrationBatch.js';
import { damageTokens, tokensOfAll } from '../evaluation/evaluatePruned.js';
import type { EvaluationText } from '../evaluation/evaluationText.js';
import { layerDamage } from '../evaluation/layerDamage.js';
import type { Measures } from '../evaluation/modelMeasures.js';
import { ModelMeter } from '../evaluation/modelMeter.js';
import { samplesOf } from '../evaluation/samples.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import type { ComparisonRow, MeasuredRow } from '../report/schema/comparison.js';
import type { CompareReport, MeasuredWindows, Sample } from '../report/schema/schema.js';
import type { PruneRequest } from '../request/request.js';
import type { PhaseClock } from '../run/phaseClock.js';
import type { RunHooks } from '../run/runHooks.js';
import type { WindowChoice } from '../selections/index.js';
import { type ComparisonPlan, planRows, type RowPlan, sharedRoom } from './memory.js';
import type { Candidate, CompareOptions } from './request.js';
import type { RowStore } from './rows.js';

type Settings = CompareOptions & CompareReport['recipe'];
type Choice = WindowChoice & { readonly seconds: number };

/** A stored row: the row itself and its part of the report as a whole. */
type StoredRow<Row> = Row & { readonly samples?: readonly Sample[]; readonly windowMap?: MeasuredWindows };

const STREAMED =
  'the model does not fit the memory limit: its layers go to the device in turn, without samples of generated text';

/** Makes the rows of a comparison, one after the other. The model is loaded when the first row has to be made. */
export class Comparing {
  #model: Model | undefined;
  #meter: ModelMeter | undefined;
  #states: HiddenStates | undefined;
  /** The plan of the rows still to be made. */
  #plan: ComparisonPlan | undefined;
  /** Windows by selection and number of layers, for selections that do not depend on the method. */
  readonly #choices = new Map<string, Choice>();

  constructor(
    private readonly from: string,
    private readonly device: Device,
    private readonly clock: PhaseClock,
    private readonly settings: Settings,
    private readonly shared: PruneOptions,
    private readonly texts: readonly EvaluationText[],
    private readonly reader: TextReader,
    private readonly batches: readonly CalibrationBatch[],
  ) {}

  async all(
    store: RowStore,
    candidates: readonly Candidate[],
  ): Promise<Pick<CompareReport, 'dense' | 'rows' | 'windowMap' | 'samples'>> {
    const { force = false, onRow } = this.settings;
    const nameOf = ({ layers, method }: Candidate) => `${layers}-${method.name}`;
    // Reads all rows first: an unusable one should not turn up after hours.
    const stored = new Map<string, StoredRow<ComparisonRow>>();
    for (const candidate of candidates) {
      const row = await store.read<StoredRow<ComparisonRow>>(nameOf(candidate), force);
      if (row) stored.set(nameOf(candidate), row);
      if (row && !('refused' in row)) this.#remember(candidate, row);
    }
    const requests = candidates.flatMap(candidate =>
      typeof candidate.request === 'string' || stored.has(nameOf(candidate)) ? [] : [candidate.request],
    );
    this.#plan = await planRows(this.from, this.shared, requests, this.device);
    if (this.#plan.offload) this.settings.onNotice?.(STREAMED);
    let original = await store.read<StoredRow<Measures>>('dense', force);
    if (!original) {
      original = await this.#measureOriginal();
      await store.write('dense', original);
    }
    const { samples: ofOriginal, windowMap: _, ...dense } = original;
    const samples = [ofOriginal];
    const maps: (MeasuredWindows | undefined)[] = [];
    const rows: ComparisonRow[] = [];
    for (const candidate of candidates) {
      let made = stored.get(nameOf(candidate));
      if (!made) {
        made = await this.#makeRow(candidate);
        this.device.check();
        await store.write(nameOf(candidate), made);
      }
      const { samples: ofRow, windowMap, ...row } = made;
      samples.push(ofRow);
      maps.push(windowMap);
      rows.push(row);
      onRow?.(row);
    }
    const windowMap = largestMap(maps);
    return {
      dense,
      rows,
      ...(windowMap && { windowMap }),
      ...(ofOriginal && { samples: joinSamples(samples) }),
    };
  }

  /** Hooks that put `heading` before each phase and end every step when the signal is aborted. */
  #hooks(heading: string): RunHooks {
    const { onProgress, signal } = this.settings;
    return {
      onProgress: event => {
        signal?.throwIfAborted();
        onProgress?.({ ...event, phase: `${heading}: ${event.phase}` });
      },
      ...(signal && { signal }),
    };
  }

  async #original(): Promise<Model> {
    const { offload } = this.#plan!;
    const load = () => Model.load(this.device, this.from, { ...this.#hooks('dense'), offload });
    this.#model ??= await this.clock.during('load', load);
    return this.#model;
  }

  /** The meter that compares models with the original. */
  async #openMeter(): Promise<ModelMeter> {
    if (this.#meter) return this.#meter;
    const model = await this.#original();
    this.#meter = await ModelMeter.of(model, this.texts, {
      batchTokens: this.settings.batchTokens,
      room: this.#room(),
      ...this.#hooks('dense'),
    });
    return this.#meter;
  }

  async #measureOriginal(): Promise<StoredRow<Measures>> {
    const model = await this.#original();
    return await this.clock.during('evaluate', async () => ({
      ...(await (await this.#openMeter()).measure(model, this.#hooks('dense'))),
      ...(await this.#samples('dense', model)),
    }));
  }

  async #makeRow({ layers, method, request }: Candidate): Promise<StoredRow<ComparisonRow>> {
    const refusedRow = (refused: string) =>
      ({ method: method.name, layers, windows: [], eval: [], refused }) as const;
    if (typeof request === 'string') return refusedRow(request);
    const plan = this.#plan!.rows.get(request)!;
    if (typeof plan === 'string') return refusedRow(plan);
    // The previous row's buffers have other sizes.
    await this.device.reclaim();
    try {
      return await this.#pruneAndMeasure(plan);
    } catch (error) {
      if (error instanceof RmError && error.code === 'INVALID_ARGUMENT') return refusedRow(error.message);
      throw error;
    }
  }

  async #pruneAndMeasure({ request, placement, spareBytes }: RowPlan): Promise<StoredRow<MeasuredRow>> {
    const { method, count: layers, settings } = request;
    const model = await this.#original();
    // Before the fit, so that the meter's states find the same room in every row.
    const meter = await this.clock.during('evaluate', () => this.#openMeter());
    const heading = `${method.name}, ${layers} removed`;
    await using spillFile = new SpillFile(this.settings.out ?? join(tmpdir(), 'rm-engine compare'));
    const context = {
      ...{ model, batches: this.batches, settings, placement, spareBytes, spillFile },
      // An offloaded model leaves them no room.
      ...(!model.isOffloaded && {
        states: new LentStates(this.device, model.arch, await this.#originalStates()),
      }),
      batchTokens: this.settings.batchTokens,
      ...this.#hooks(heading),
    };
    const choice = await this.clock.during('select', () =>
      this.#chooseWindows(request, async () => request.selection.select({ ...context, ...request })),
    );
    const started = performance.now();
    const repair = await this.clock.during('fit', async () => {
      const fitted = await method.repair({ ...context, phases: this.clock }, choice.windows);
      await this.device.recorder.finish();
      return fitted;
    });
    const fitSeconds = choice.seconds + (performance.now() - started) / 1000;
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    using _ = this.clock.enter('evaluate');
    return {
      method: method.name,
      layers,
      windows: choice.windows.map(({ layer, count }) => [layer, count]),
      selection: { name: request.selection.name, by: choice.by, seconds: choice.seconds },
      ...(await meter.measure(pruned.model, this.#hooks(heading))),
      fitSeconds,
      details: repair.details,
      ridgePaths: repair.ridgePaths ?? [],
      ...(await this.#damage(pruned, heading)),
      warnings: repair.warnings ?? [],
      ...(choice.map && { windowMap: choice.map }),
      ...(await this.#samples(heading, pruned.model)),
    };
  }

  /** Errors of the hidden states by layer, unless `report` is none. */
  async #damage({ model, keep }: PrunedModel, heading: string): Promise<Pick<MeasuredRow, 'damageByLayer'>> {
    if (this.settings.report === 'none') return {};
    const tokens = tokensOfAll(this.texts, damageTokens(this.device));
    const options = { batchTokens: this.settings.batchTokens, ...this.#hooks(heading) };
    const { models } = await layerDamage(await this.#original(), [model], keep, tokens, options);
    return { damageByLayer: models[0]! };
  }

  /** Continuations that a model writes, unless `report` is none or every token would take all layers to the device. */
  async #samples(name: string, model: Model): Promise<{ samples?: readonly Sample[] }> {
    if (this.settings.report === 'none' || model.isOffloaded) return {};
    return { samples: await samplesOf([[name, model]], this.reader, this.#hooks(name)) };
  }

  /** Outputs of all layers of the original model: one pass serves every row. */
  async #originalStates(): Promise<HiddenStates> {
    if (this.#states) return this.#states;
    const model = await this.#original();
    this.#states = new HiddenStates(this.device, model.arch, this.#room());
    await keepStates(model, this.batches, this.#states, this.#hooks('original'));
    return this.#states;
  }

  /** Bytes for one kind of states that are kept for speed alone. */
  #room(): number {
    const { memory } = this.device;
    return Math.min(roomFor(this.device, memory.liveBytes), sharedRoom(this.#plan!, this.device));
  }

  async #chooseWindows(request: PruneRequest, select: () => Promise<WindowChoice>): Promise<Choice> {
    const shared = this.#choices.get(choiceKey(request));
    if (shared) return shared;
    const started = performance.now();
    const choice = { ...(await select()), seconds: (performance.now() - started) / 1000 };
    if (!request.selection.dependsOnMethod) this.#choices.set(choiceKey(request), choice);
    return choice;
  }

  /** Reuses the windows of a stored row. */
  #remember({ request }: Candidate, { windows, selection }: MeasuredRow): void {
    if (typeof request === 'string' || request.selection.dependsOnMethod) return;
    this.#choices.set(choiceKey(request), {
      windows: windows.map(([layer, count]) => ({ layer, count })),
      by: selection.by,
      seconds: selection.seconds,
    });
  }

  [Symbol.dispose](): void {
    this.#meter?.[Symbol.dispose]();
    this.#states?.dispose();
    this.#model?.dispose();
  }
}

const choiceKey = ({ selection, count }: PruneRequest): string => `${selection.name} ${count}`;

/** The map of the most windows; a window with a measured residual counts half as much again. */
function largestMap(maps: readonly (MeasuredWindows | undefined)[]): MeasuredWindows | undefined {
  const size = (map: MeasuredWindows | undefined) =>
    (map?.windows ?? []).reduce((sum, { residual }) => sum + (residual === undefined ? 1 : 1.5), 0);
  return maps.reduce((largest, map) => (size(map) > size(largest) ? map : largest), undefined);
}

/** Joins the samples of several models, prompt by prompt. */
const joinSamples = (lists: readonly (readonly Sample[] | undefined)[]): Sample[] =>
  (lists[0] ?? []).map((sample, prompt) => ({
    ...sample,
    continuations: lists.flatMap(list => list?.[prompt]?.continuations ?? []),
  }));
