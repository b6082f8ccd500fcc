import { basename, resolve } from 'node:path';
import { byteSize, type DType, elementCount, noJournal, type Tensor } from '../../engine/index.js';
import {
  Batch,
  evaluate,
  expectedTensors,
  firstTokens,
  forward,
  type Model,
  ReferenceStates,
  totalTokens,
} from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { EvaluationText } from './evaluationText.js';
import type { FileScores, Measures } from './modelMeasures.js';
import { PositionLosses } from './positionLoss.js';

/** Measures but the speed. */
export type Scores = Omit<Measures, 'tokensPerSecond'>;

/** Timed passes of each model; an odd number has a median. */
export const SPEED_PASSES = 3;

/** Layers that a timed pass runs. */
const timedLayers = (model: Model): number => (model.isOffloaded ? 1 : model.arch.layers);

/** Measures models in memory against a reference model of the same vocabulary, on the same texts. */
export class ModelMeter {
  private constructor(
    private readonly texts: readonly EvaluationText[],
    /** The reference model's states, by text. */
    private readonly references: readonly ReferenceStates[],
    private readonly batchTokens: number,
  ) {}

  /**
   * Runs the reference model over the texts.
   *
   * @param room bytes for states between layers, from which models with the same first layers start.
   * @throws RmError OUT_OF_MEMORY.
   */
  static async of(
    model: Model,
    texts: readonly EvaluationText[],
    { batchTokens, room, ...hooks }: RunHooks & { readonly batchTokens: number; readonly room: number },
  ): Promise<ModelMeter> {
    const total = totalTokens(texts.flatMap(({ sequences }) => sequences));
    const references: ReferenceStates[] = [];
    const meter = new ModelMeter(texts, references, batchTokens);
    try {
      for (const { sequences } of texts) {
        const stateBytes = (room * totalTokens(sequences)) / total;
        references.push(await ReferenceStates.of(model, sequences, { batchTokens, stateBytes, ...hooks }));
      }
      return meter;
    } catch (error) {
      meter[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws RmError NOT_FINITE where the model assigns no finite likelihood to a text. */
  async measure(model: Model, hooks: RunHooks): Promise<Measures> {
    const scores = await this.scores(model, hooks);
    const [tokensPerSecond] = await this.speeds([model]);
    return { ...scores, tokensPerSecond: tokensPerSecond! };
  }

  /** Everything but the speed. @throws RmError as `measure`. */
  async scores(model: Model, hooks: RunHooks): Promise<Scores> {
    return (await this.scoresOfBoth(model, hooks)).own;
  }

  /** The scores of a model, and those of the reference model, which every comparison gives too. @throws RmError as `measure`. */
  async scoresOfBoth(
    model: Model,
    hooks: RunHooks,
  ): Promise<{ readonly own: Scores; readonly reference: Scores }> {
    const { journal = noJournal } = hooks;
    const [own, other] = [new PositionLosses(), new PositionLosses()];
    using _own = await journal.track('positions', own);
    using _other = await journal.track('positions of the reference', other);
    const [ofOwn, ofOther]: [FileScores[], FileScores[]] = [[], []];
    for (const [i, { file: path, sequences }] of this.texts.entries()) {
      const against = this.references[i]!;
      const { perplexity, againstPerplexity, kl, top1 } = await evaluate(model, sequences, {
        ...(model === against.model ? { prefix: against } : { against }),
        ...{ onLosses: own.add, onAgainstLosses: other.add },
        ...hooks,
      });
      const file = basename(resolve(path));
      // The reference model itself has KL 0 and agreement 1.
      ofOwn.push({ file, ppl: perplexity, kl: kl ?? 0, top1: top1 ?? 1 });
      ofOther.push({ file, ppl: againstPerplexity ?? perplexity, kl: 0, top1: 1 });
    }
    const measured = (of: Model, scores: readonly FileScores[], positions: PositionLosses): Scores => ({
      ...{ eval: scores, parameters: parametersOf(of), bytes: bytesOf(of) },
      lossByPosition: positions.losses,
    });
    return {
      own: measured(model, ofOwn, own),
      reference: measured(this.references[0]!.model, ofOther, other),
    };
  }

  /**
   * Tokens per second of each model: the median of passes over a quarter of a batch. The models take turns, so that other work
   * on the machine slows all of them; a first pass may have to compile kernels and does not count. For an offloaded model,
   * extrapolates from the first layer, without its upload.
   */
  async speeds(models: readonly Model[]): Promise<number[]> {
    const all = this.texts.flatMap(({ sequences }) => sequences.map(sequence => [...sequence]));
    const { device } = models[0]!;
    using batch = new Batch(device, firstTokens(all, Math.ceil(this.batchTokens / 4)));
    const seconds: number[][] = models.map(() => []);
    for (let pass = 0; pass <= SPEED_PASSES; pass++) {
      for (const [m, model] of models.entries()) {
        await model.loadLayer(0);
        const started = performance.now();
        using _hidden = forward(model, batch, { to: timedLayers(model) });
        await device.recorder.finish();
        if (pass > 0) seconds[m]!.push((performance.now() - started) / 1000);
      }
    }
    return models.map((model, m) => {
      const median = seconds[m]!.sort((a, b) => a - b)[(SPEED_PASSES - 1) / 2]!;
      return (batch.tokens * timedLayers(model)) / (model.arch.layers * median);
    });
  }

  [Symbol.dispose](): void {
    for (const reference of this.references) reference.dispose();
  }
}

/** A model's tensors, tied ones once. */
function tensorsOf({ weights: { layers, vision, ...outer } }: Model): Set<Tensor | undefined> {
  const { head, ...before } = vision ?? { head: undefined };
  const pooling = head ? { probe: head.probe, ...head.layer } : {};
  const groups: Readonly<Record<string, Tensor | undefined>>[] = [outer, before, pooling, ...layers];
  return new Set(groups.flatMap(group => Object.values(group)));
}

/** Size and number type of each tensor that the checkpoint has a name for. */
const storedTensors = (model: Model): Map<string, { size: number; dtype: DType }> =>
  new Map(
    expectedTensors(model.arch).map(({ name, shape }) => [
      name,
      { size: elementCount(shape), dtype: model.typeOf(name) },
    ]),
  );

/** Number of parameters. All tensors of an offloaded model are the checkpoint's. */
const parametersOf = (model: Model): number =>
  model.isOffloaded
    ? [...storedTensors(model).values()].reduce((sum, { size }) => sum + size, 0)
    : [...tensorsOf(model)].reduce((sum, tensor) => sum + (tensor?.size ?? 0), 0);

/** Bytes of a model's tensors as a checkpoint stores them; tensors that a checkpoint can't store count as f32. */
function bytesOf(model: Model): number {
  const named = [...storedTensors(model).values()];
  const stored = named.reduce((sum, { size, dtype }) => sum + size * byteSize(dtype), 0);
  const namedParameters = named.reduce((sum, { size }) => sum + size, 0);
  return stored + byteSize('f32') * (parametersOf(model) - namedParameters);
}
