import { basename, join, resolve } from 'node:path';
import { Device, RmError } from '../engine/index.js';
import { Batch } from '../model/batch.js';
import { loadChatTemplate } from '../model/chat.js';
import { evaluate } from '../model/evaluate.js';
import { Model } from '../model/model.js';
import { ReferenceStates } from '../model/referenceStates.js';
import { loadTokenizer } from '../model/tokenizer.js';
import { firstTokens } from '../model/tokenSequences.js';
import { forward } from '../model/transformer.js';
import { batchesOf, readTexts } from './calibrate.js';
import { sha256 } from './calibration.js';
import type { CalibrationBatch } from './calibrationBatch.js';
import type { Comparison } from './compare/comparison.js';
import {
  type Candidate,
  type CompareOptions,
  checkCompareRequest,
  type EvaluationText,
} from './compare/request.js';
import {
  type ComparisonKey,
  type ComparisonRow,
  type FileScores,
  type MeasuredRow,
  type Measures,
  RowStore,
  writeWhole,
} from './compare/rows.js';
import { comparisonMarkdown } from './compare/table.js';
import { HiddenStates, keepStates, LentStates, roomFor } from './hiddenStates.js';
import { packageVersion } from './modelCard.js';
import { PrunedModel } from './prunedModel.js';
import type { PruneOptions } from './pruneOptions.js';
import { calibrationSizes, type PruneRequest } from './request.js';
import type { WindowChoice } from './selections/index.js';
import type { WalkOptions } from './walk.js';
import { modelFingerprint } from './writeModel.js';

/**
 * Compares methods on one model and one set of calibration data: every method at every number of removed layers
 * selects, repairs and is evaluated in memory against the model as it is. With `options.out` a stopped comparison
 * goes on where it was.
 *
 * @throws RmError INVALID_ARGUMENT and DATA_INVALID before a device is opened; OUTPUT_EXISTS where `out` holds rows of
 *   other data or settings; else as `prune`. A method's own INVALID_ARGUMENT is a row with the reason.
 */
export async function compare(from: string, options: CompareOptions): Promise<Comparison> {
  const { shared, arch, candidates, texts } = await checkCompareRequest(from, options);
  const device = options.device ?? (await Device.open(options));
  try {
    const recipe = calibrationSizes(shared, device, arch);
    const tokenizer = await loadTokenizer(from);
    const reader = { tokenizer, chat: await loadChatTemplate(from, tokenizer) };
    const calibration = await readTexts(reader, shared, recipe);
    const evaluation = await Promise.all(
      texts.map(async ({ file, sequences }) => ({
        file,
        sha256: await sha256(file),
        tokens: sequences.reduce((sum, { length }) => sum + length, 0),
      })),
    );
    const head = {
      version: await packageVersion(),
      model: { path: from, fingerprint: await modelFingerprint(from), layers: arch.layers },
      adapter: device.info,
      recipe,
      calibration: { tokens: calibration.tokens, files: calibration.files },
      evaluation,
    };
    const store = new RowStore(options.out, keyOf(head, shared, options.evaluationTokens));
    await store.open();
    const batches = batchesOf(calibration, shared, tokenizer, recipe);
    using run = new Comparing(from, device, { ...options, ...recipe }, texts, batches);
    const { dense, rows } = await run.all(store, candidates);
    const comparison: Comparison = { ...head, dense, rows };
    if (options.out !== undefined) {
      await writeWhole(join(options.out, 'compare.json'), `${JSON.stringify(comparison, null, 2)}\n`);
      await writeWhole(join(options.out, 'compare.md'), comparisonMarkdown(comparison));
    }
    return comparison;
  } finally {
    if (!options.device) await device.close();
  }
}

/** Data and settings that every row depends on. Files count by content, not by place. */
function keyOf(
  head: Omit<Comparison, 'dense' | 'rows'>,
  shared: PruneOptions,
  evaluationTokens: number | undefined,
): ComparisonKey {
  const { calibration, weights, device, adapter, memoryLimit, force, onProgress, signal, ...settings } =
    shared;
  return {
    ...settings,
    ...head.recipe,
    evaluationTokens,
    version: head.version,
    model: head.model.fingerprint,
    adapter: head.adapter.description,
    calibration: head.calibration.files.map(({ sha256, weight }) => ({ sha256, weight })),
    evaluation: head.evaluation.map(({ sha256 }) => sha256),
  };
}

type Settings = CompareOptions & Comparison['recipe'];
type Choice = WindowChoice & { readonly seconds: number };

/** The rows of a comparison, one after the other. The model is loaded when a row has to be made. */
class Comparing {
  #model: Model | undefined;
  #references: ReferenceStates[] | undefined;
  #states: HiddenStates | undefined;
  /** By selection and number of layers, where nothing else decides. */
  readonly #choices = new Map<string, Choice>();

  constructor(
    private readonly from: string,
    private readonly device: Device,
    private readonly settings: Settings,
    private readonly texts: readonly EvaluationText[],
    private readonly batches: readonly CalibrationBatch[],
  ) {}

  async all(
    store: RowStore,
    candidates: readonly Candidate[],
  ): Promise<{ dense: Measures; rows: ComparisonRow[] }> {
    const { force = false, onRow } = this.settings;
    const nameOf = ({ layers, method }: Candidate) => `${layers}-${method.name}`;
    // All are looked at first: a row that cannot be used should not be found after hours.
    const done = new Map<string, ComparisonRow>();
    for (const candidate of candidates) {
      const row = await store.read<ComparisonRow>(nameOf(candidate), force);
      if (row) done.set(nameOf(candidate), row);
      if (row && !('refused' in row)) this.#remember(candidate, row);
    }
    let dense = await store.read<Measures>('dense', force);
    if (!dense) {
      dense = await this.#dense();
      await store.write('dense', dense);
    }
    const rows: ComparisonRow[] = [];
    for (const candidate of candidates) {
      let row = done.get(nameOf(candidate));
      if (!row) {
        row = await this.#row(candidate);
        this.device.check();
        await store.write(nameOf(candidate), row);
      }
      rows.push(row);
      onRow?.(row);
    }
    return { dense, rows };
  }

  /** Progress under a heading, and the end of every step when the signal says so. */
  #walk(heading: string): WalkOptions {
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
    this.#model ??= await Model.load(this.device, this.from, this.#walk('dense'));
    return this.#model;
  }

  /** The model as it is on every text. */
  async #referenced(): Promise<readonly ReferenceStates[]> {
    if (this.#references) return this.#references;
    const model = await this.#loaded();
    const { memory } = this.device;
    const room = roomFor(memory.limit, memory.liveBytes);
    const tokensOf = (text: EvaluationText) => text.sequences.reduce((sum, { length }) => sum + length, 0);
    const total = this.texts.reduce((sum, text) => sum + tokensOf(text), 0);
    this.#references = [];
    for (const text of this.texts) {
      this.#references.push(
        await ReferenceStates.of(model, text.sequences, {
          batchTokens: this.settings.batchTokens,
          stateBytes: (room * tokensOf(text)) / total,
          ...this.#walk('dense'),
        }),
      );
    }
    return this.#references;
  }

  async #dense(): Promise<Measures> {
    return this.#measures(await this.#loaded(), 'dense');
  }

  async #row({ layers, method, request }: Candidate): Promise<ComparisonRow> {
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

  async #measured(request: PruneRequest): Promise<MeasuredRow> {
    const { method, count: layers, settings } = request;
    const model = await this.#loaded();
    // Before the fit, so that its states find the same room in every row.
    await this.#referenced();
    const heading = `${method.name}, ${layers} removed`;
    const states = new LentStates(this.device, model.arch, await this.#originalStates());
    const context = { model, batches: this.batches, settings, states, ...this.#walk(heading) };
    const choice = await this.#choice(request, async () =>
      request.selection.select({ ...context, ...request }),
    );
    const started = performance.now();
    const repair = await method.repair(context, choice.windows);
    await this.device.recorder.finish();
    const fitSeconds = choice.seconds + (performance.now() - started) / 1000;
    using pruned = new PrunedModel(model, choice.windows, repair.changes);
    return {
      method: method.name,
      layers,
      windows: choice.windows.map(({ layer, count }) => [layer, count]),
      selection: { name: request.selection.name, by: choice.by, seconds: choice.seconds },
      ...(await this.#measures(pruned.model, heading)),
      fitSeconds,
      details: repair.details,
      warnings: repair.warnings ?? [],
    };
  }

  /** Outputs of all layers of the original model, which every row begins with: one pass for all. */
  async #originalStates(): Promise<HiddenStates> {
    if (this.#states) return this.#states;
    const model = await this.#loaded();
    this.#states = new HiddenStates(this.device, model.arch);
    await keepStates(model, this.batches, this.#states, this.#walk('original'));
    return this.#states;
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

  async #measures(model: Model, heading: string): Promise<Measures> {
    const references = await this.#referenced();
    const scores: FileScores[] = [];
    for (const [i, { file, sequences }] of this.texts.entries()) {
      const against = references[i]!;
      const { perplexity, kl, top1 } = await evaluate(model, sequences, { against, ...this.#walk(heading) });
      scores.push({ file: basename(resolve(file)), ppl: perplexity, kl: kl!, top1: top1! });
    }
    return { eval: scores, parameters: parametersOf(model), tokensPerSecond: await this.#speed(model) };
  }

  /** Tokens a second of the faster of two passes over a quarter of a batch; the first may have to compile kernels. */
  async #speed(model: Model): Promise<number> {
    const { batchTokens } = this.settings;
    const all = this.texts.flatMap(({ sequences }) => sequences.map(sequence => [...sequence]));
    using batch = new Batch(this.device, firstTokens(all, Math.ceil(batchTokens / 4)));
    const seconds: number[] = [];
    for (let pass = 0; pass < 2; pass++) {
      const started = performance.now();
      using _hidden = forward(model, batch);
      await this.device.recorder.finish();
      seconds.push((performance.now() - started) / 1000);
    }
    return batch.tokens / Math.min(...seconds);
  }

  [Symbol.dispose](): void {
    for (const reference of this.#references ?? []) reference.dispose();
    this.#states?.dispose();
    this.#model?.dispose();
  }
}

const choiceKey = ({ selection, count }: PruneRequest): string => `${selection.name} ${count}`;

/** Numbers in a model's tensors; tied ones count once. */
function parametersOf({ weights: { layers, ...outer } }: Model): number {
  const tensors = new Set([outer, ...layers].flatMap(group => Object.values(group)));
  return [...tensors].reduce((sum, tensor) => sum + (tensor?.size ?? 0), 0);
}
