import { type Device, RmError } from '../../engine/index.js';
import { Model, type TextReader } from '../../model/index.js';
import { HiddenStates, keepStates, LentStates, roomFor } from '../activations/hiddenStates.js';
import { PrunedModel } from '../activations/prunedModel.js';
import type { CalibrationBatch } from '../calibration/batch.js';
import { damageTokens, tokensOfAll } from '../evaluation/evaluatePruned.js';
import type { EvaluationText } from '../evaluation/evaluationText.js';
import { layerDamage } from '../evaluation/layerDamage.js';
import type { Measures } from '../evaluation/measures.js';
import { ModelMeter } from '../evaluation/modelMeter.js';
import { samplesOf } from '../evaluation/samples.js';
import type { PruneOptions } from '../options/pruneOptions.js';
import type { ComparisonRow, MeasuredRow } from '../report/schema/comparison.js';
import type { CompareReport, MeasuredWindows, Sample } from '../report/schema/schema.js';
import type { PruneRequest } from '../request/request.js';
import type { PhaseClock } from '../run/phaseClock.js';
import type { RunHooks } from '../run/runHooks.js';
import type { WindowChoice } from '../selections/index.js';
import { planRow, type RowPlan, sharedRoom } from './memory.js';
import type { Candidate, CompareOptions } from './request.js';
import type { RowStore } from './rows.js';

type Settings = CompareOptions & CompareReport['recipe'];
type Choice = WindowChoice & { readonly seconds: number };

/** A row as it is kept, with what belongs to the report as a whole. */
type Kept<Row> = Row & { readonly samples?: readonly Sample[]; readonly windowMap?: MeasuredWindows };

/** The rows of a comparison, one after the other. The model is loaded when a row has to be made. */
export class Comparing {
  #model: Model | undefined;
  #meter: ModelMeter | undefined;
  #states: HiddenStates | undefined;
  /** Of rows that are still to be made. */
  readonly #plans = new Map<PruneRequest, RowPlan>();
  /** By selection and number of layers, where nothing else decides. */
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
    // All are looked at first: a row that cannot be used should not be found after hours.
    const done = new Map<string, Kept<ComparisonRow>>();
    for (const candidate of candidates) {
      const row = await store.read<Kept<ComparisonRow>>(nameOf(candidate), force);
      if (row) done.set(nameOf(candidate), row);
      if (row && !('refused' in row)) this.#remember(candidate, row);
    }
    for (const { layers, method, request } of candidates) {
      if (typeof request === 'string' || done.has(nameOf({ layers, method, request }))) continue;
      this.#plans.set(request, await planRow(this.from, this.shared, request, this.device));
    }
    let first = await store.read<Kept<Measures>>('dense', force);
    if (!first) {
      first = await this.#dense();
      await store.write('dense', first);
    }
    const { samples: written, windowMap: _, ...dense } = first;
    const samples = [written];
    const maps: (MeasuredWindows | undefined)[] = [];
    const rows: ComparisonRow[] = [];
    for (const candidate of candidates) {
      let kept = done.get(nameOf(candidate));
      if (!kept) {
        kept = await this.#row(candidate);
        this.device.check();
        await store.write(nameOf(candidate), kept);
      }
      const { samples: more, windowMap, ...row } = kept;
      samples.push(more);
      maps.push(windowMap);
      rows.push(row);
      onRow?.(row);
    }
    const windowMap = largestMap(maps);
    return {
      dense,
      rows,
      ...(windowMap && { windowMap }),
      ...(written && { samples: joinSamples(samples) }),
    };
  }

  /** Progress under a heading, and the end of every step when the signal says so. */
  #walk(heading: string): RunHooks {
    const { onProgress, signal } = this.settings;
    return {
      onProgress: event => {
        signal?.throwIfAborted();
        onProgress?.({ ...event, phase: `${heading}: ${event.phase}` });
      },
      ...(signal && { signal }),
    };
  }

  async #loaded(): Promise<Model> {
    const load = () => Model.load(this.device, this.from, this.#walk('dense'));
    this.#model ??= await this.clock.during('load', load);
    return this.#model;
  }

  /** Measures against the model as it is. */
  async #measuring(): Promise<ModelMeter> {
    if (this.#meter) return this.#meter;
    const model = await this.#loaded();
    this.#meter = await ModelMeter.of(model, this.texts, {
      batchTokens: this.settings.batchTokens,
      room: this.#room(),
      ...this.#walk('dense'),
    });
    return this.#meter;
  }

  async #dense(): Promise<Kept<Measures>> {
    const model = await this.#loaded();
    return await this.clock.during('evaluate', async () => ({
      ...(await (await this.#measuring()).measure(model, this.#walk('dense'))),
      ...(await this.#samples('dense', model)),
    }));
  }

  async #row({ layers, method, request }: Candidate): Promise<Kept<ComparisonRow>> {
    const refusedRow = (refused: string) =>
      ({ method: method.name, layers, windows: [], eval: [], refused }) as const;
    if (typeof request === 'string') return refusedRow(request);
    // Buffers of the row before have other sizes.
    this.device.memory.trim();
    try {
      return await this.#measured(request);
    } catch (error) {
      if (error instanceof RmError && error.code === 'INVALID_ARGUMENT') return refusedRow(error.message);
      throw error;
    }
  }

  async #measured(request: PruneRequest): Promise<Kept<MeasuredRow>> {
    const { method, count: layers, settings } = request;
    const model = await this.#loaded();
    // Before the fit, so that its states find the same room in every row.
    const meter = await this.clock.during('evaluate', () => this.#measuring());
    const heading = `${method.name}, ${layers} removed`;
    const states = new LentStates(this.device, model.arch, await this.#originalStates());
    const { placement, spareBytes } = this.#plans.get(request)!;
    const context = {
      ...{ model, batches: this.batches, settings, states, placement, spareBytes },
      batchTokens: this.settings.batchTokens,
      ...this.#walk(heading),
    };
    const choice = await this.clock.during('select', () =>
      this.#choice(request, async () => request.selection.select({ ...context, ...request })),
    );
    const started = performance.now();
    const repair = await this.clock.during('fit', async () => {
      const found = await method.repair({ ...context, phases: this.clock }, choice.windows);
      await this.device.recorder.finish();
      return found;
    });
    const fitSeconds = choice.seconds + (performance.now() - started) / 1000;
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    using _ = this.clock.enter('evaluate');
    return {
      method: method.name,
      layers,
      windows: choice.windows.map(({ layer, count }) => [layer, count]),
      selection: { name: request.selection.name, by: choice.by, seconds: choice.seconds },
      ...(await meter.measure(pruned.model, this.#walk(heading))),
      fitSeconds,
      details: repair.details,
      ridgePaths: repair.ridgePaths ?? [],
      ...(await this.#damage(pruned, heading)),
      warnings: repair.warnings ?? [],
      ...(choice.map && { windowMap: choice.map }),
      ...(await this.#samples(heading, pruned.model)),
    };
  }

  /** Errors of the hidden states, unless no report is wanted. */
  async #damage({ model, keep }: PrunedModel, heading: string): Promise<Pick<MeasuredRow, 'damageByLayer'>> {
    if (this.settings.report === false) return {};
    const tokens = tokensOfAll(this.texts, damageTokens(this.device));
    const options = { batchTokens: this.settings.batchTokens, ...this.#walk(heading) };
    const { models } = await layerDamage(await this.#loaded(), [model], keep, tokens, options);
    return { damageByLayer: models[0]! };
  }

  /** What a model writes, unless no report is wanted. */
  async #samples(name: string, model: Model): Promise<{ samples?: readonly Sample[] }> {
    if (this.settings.report === false) return {};
    return { samples: await samplesOf([[name, model]], this.reader, this.#walk(name)) };
  }

  /** Outputs of all layers of the original model, which every row begins with: one pass for all. */
  async #originalStates(): Promise<HiddenStates> {
    if (this.#states) return this.#states;
    const model = await this.#loaded();
    this.#states = new HiddenStates(this.device, model.arch, this.#room());
    await keepStates(model, this.batches, this.#states, this.#walk('original'));
    return this.#states;
  }

  /** Bytes of states that are only kept for speed, of one kind. */
  #room(): number {
    const { memory } = this.device;
    return Math.min(roomFor(memory.limit, memory.liveBytes), sharedRoom(this.#plans.values(), this.device));
  }

  async #choice(request: PruneRequest, select: () => Promise<WindowChoice>): Promise<Choice> {
    const known = this.#choices.get(choiceKey(request));
    if (known) return known;
    const started = performance.now();
    const found = await select();
    const choice = { ...found, seconds: (performance.now() - started) / 1000 };
    if (!request.selection.dependsOnMethod) this.#choices.set(choiceKey(request), choice);
    return choice;
  }

  /** Takes the windows of a row that is done. */
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

/** The map that tells most: of the most windows, with what linear maps leave of them where that was measured. */
function largestMap(maps: readonly (MeasuredWindows | undefined)[]): MeasuredWindows | undefined {
  const size = (map: MeasuredWindows | undefined) =>
    (map?.windows ?? []).reduce((sum, { residual }) => sum + (residual === undefined ? 1 : 1.5), 0);
  return maps.reduce((largest, map) => (size(map) > size(largest) ? map : largest), undefined);
}

/** Samples of one model after the other as samples of all. */
const joinSamples = (lists: readonly (readonly Sample[] | undefined)[]): Sample[] =>
  (lists[0] ?? []).map((sample, prompt) => ({
    ...sample,
    continuations: lists.flatMap(list => list?.[prompt]?.continuations ?? []),
  }));
