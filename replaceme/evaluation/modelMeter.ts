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

/** Measures models in memory, side by side with one of the same vocabulary, on the same texts. */
export class ModelMeter {
  private constructor(
    private readonly texts: readonly EvaluationText[],
    /** Of the model as it is, by text. */
    private readonly references: readonly ReferenceStates[],
    private readonly batchTokens: number,
  ) {}

  /**
   * Runs the model as it is over the texts.
   *
   * @param room bytes for states between layers, which models with the same first layers begin with.
   * @throws RmError OUT_OF_MEMORY.
   */
  static async of(
    model: Model,
    texts: readonly EvaluationText[],
    { batchTokens, room, ...walk }: RunHooks & { readonly batchTokens: number; readonly room: number },
  ): Promise<ModelMeter> {
    const total = totalTokens(texts.flatMap(({ sequences }) => sequences));
    const references: ReferenceStates[] = [];
    const meter = new ModelMeter(texts, references, batchTokens);
    try {
      for (const { sequences } of texts) {
        const stateBytes = (room * totalTokens(sequences)) / total;
        references.push(await ReferenceStates.of(model, sequences, { batchTokens, stateBytes, ...walk }));
      }
      return meter;
    } catch (error) {
      meter[Symbol.dispose]();
      throw error;
    }
  }

  /** @throws RmError NOT_FINITE where the model assigns no finite likelihood to a text. */
  async measure(model: Model, walk: RunHooks): Promise<Measures> {
    const { journal = noJournal } = walk;
    const scores: FileScores[] = [];
    const positions = new PositionLosses();
    using _held = await journal.track('positions', positions);
    for (const [i, { file, sequences }] of this.texts.entries()) {
      const against = this.references[i]!;
      const { perplexity, kl, top1 } = await evaluate(model, sequences, {
        ...(model === against.model ? { prefix: against } : { against }),
        onLosses: positions.add,
        ...walk,
      });
      // Beside itself a model differs by nothing.
      scores.push({ file: basename(resolve(file)), ppl: perplexity, kl: kl ?? 0, top1: top1 ?? 1 });
    }
    return {
      eval: scores,
      parameters: parametersOf(model),
      bytes: bytesOf(model),
      tokensPerSecond: await this.#speed(model),
      lossByPosition: positions.losses,
    };
  }

  /**
   * Tokens a second of the faster of two passes over a quarter of a batch; the first may have to compile kernels. Where
   * layers are streamed the first one stands for all, without its upload.
   */
  async #speed(model: Model): Promise<number> {
    const all = this.texts.flatMap(({ sequences }) => sequences.map(sequence => [...sequence]));
    using batch = new Batch(model.device, firstTokens(all, Math.ceil(this.batchTokens / 4)));
    const { layers } = model.arch;
    const to = model.isOffloaded ? 1 : layers;
    await model.loadLayer(0);
    const seconds: number[] = [];
    for (let pass = 0; pass < 2; pass++) {
      const started = performance.now();
      using _hidden = forward(model, batch, { to });
      await model.device.recorder.finish();
      seconds.push((performance.now() - started) / 1000);
    }
    return (batch.tokens * to) / (layers * Math.min(...seconds));
  }

  [Symbol.dispose](): void {
    for (const reference of this.references) reference.dispose();
  }
}

/** A model's tensors; tied ones count once. */
const tensorsOf = ({ weights: { layers, vision, ...outer } }: Model): Set<Tensor | undefined> =>
  new Set<Tensor | undefined>([outer, vision ?? {}, ...layers].flatMap(group => Object.values(group)));

/** Numbers in each tensor that the checkpoint has a name for, and its number type. */
const storedTensors = (model: Model): Map<string, { size: number; dtype: DType }> =>
  new Map(
    expectedTensors(model.arch).map(({ name, shape }) => [
      name,
      { size: elementCount(shape), dtype: model.typeOf(name) },
    ]),
  );

/** Numbers in a model's tensors. Where layers are streamed, all of them are the checkpoint's. */
const parametersOf = (model: Model): number =>
  model.isOffloaded
    ? [...storedTensors(model).values()].reduce((sum, { size }) => sum + size, 0)
    : [...tensorsOf(model)].reduce((sum, tensor) => sum + (tensor?.size ?? 0), 0);

/** Of a model's tensors as a checkpoint stores them; what has no place in one counts as it is. */
function bytesOf(model: Model): number {
  const named = [...storedTensors(model).values()];
  const stored = named.reduce((sum, { size, dtype }) => sum + size * byteSize(dtype), 0);
  const known = named.reduce((sum, { size }) => sum + size, 0);
  return stored + byteSize('f32') * (parametersOf(model) - known);
}
