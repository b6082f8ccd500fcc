import { type Device, downloadF32, Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { topLogProbabilities } from '../../kernels/index.js';
import {
  type Architecture,
  Batch,
  embedTokens,
  evaluate,
  finalHidden,
  forward,
  lossAndGradients,
  type Model,
  type Objective,
  predictionsOf,
  ReferenceStates,
  sharedLayers,
  totalTokens,
} from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import type { HeldOutScores } from '../run/trainingRecord.js';
import type { HealingSettings } from './healingSettings.js';
import type { TrainingSequence } from './sequenceOrder.js';
import type { TrainedWeights } from './trainedWeights.js';
import type { TrainingTask } from './trainingTask.js';

/** The models and the held-out text of a training. */
interface HealingInputs {
  readonly trained: TrainedWeights;
  /** The model before pruning; the objective lm uses it only for the held-out KL. */
  readonly teacher: Model | undefined;
  readonly heldOut: readonly (readonly number[])[];
}

/** Bytes of the teacher's hidden states for so many held-out tokens: after its last layer, and at three earlier depths. */
export const heldOutStates = ({ hidden }: Pick<Architecture, 'hidden'>, tokens: number): number =>
  4 * 4 * hidden * tokens;

/**
 * Healing as a task of the training loop. Layers below the first trained one only run forward, without keeping
 * activations; those whose tensors the teacher shares run once for both models.
 */
export class HealingTask implements TrainingTask {
  private constructor(
    private readonly device: Device,
    private readonly inputs: HealingInputs,
    private readonly settings: HealingSettings,
    /** The teacher's states for the held-out text. */
    private readonly reference: ReferenceStates | undefined,
    private readonly hooks: RunHooks,
  ) {}

  /** Runs the teacher over the held-out text. @throws RmError OUT_OF_MEMORY. */
  static async of(inputs: HealingInputs, settings: HealingSettings, hooks: RunHooks): Promise<HealingTask> {
    const { teacher, heldOut, trained } = inputs;
    const { device, arch } = trained.model;
    // A resumed process continues the training, but runs the teacher again.
    const { journal: _, ...unjournaled } = hooks;
    const batchTokens = settings.microBatchTokens;
    const stateBytes = heldOutStates(arch, totalTokens(heldOut)) - 4 * arch.hidden * totalTokens(heldOut);
    const reference =
      teacher && heldOut.length > 0
        ? await ReferenceStates.of(teacher, heldOut, { batchTokens, stateBytes, ...unjournaled })
        : undefined;
    return new HealingTask(device, inputs, settings, reference, hooks);
  }

  get parameters() {
    return this.inputs.trained.parameters;
  }

  async addGradients(sequences: readonly TrainingSequence[], scale: number): Promise<number> {
    const { device } = this;
    const { model, gradients, lowest } = this.inputs.trained;
    using scope = new Scope(device);
    const ids = sequences.map(sequence => sequence.ids);
    using batch = new Batch(device, ids);
    // The last token of a sequence has no known successor.
    const values = sequences.flatMap(({ ids, weight }) =>
      ids.map((_, i) => (i < ids.length - 1 ? scale * weight : 0)),
    );
    const weights = scope.own(tensorFrom(device, Float32Array.from(values), [batch.tokens], 'loss weights'));
    const loss = scope.tensor([batch.tokens], 'f32', 'losses');
    const { below, objective } = this.#belowAndObjective(batch, scope);
    const from = lowest !== undefined && below ? { from: lowest, input: below } : {};
    lossAndGradients(model, batch, objective, weights, loss, gradients, from);
    const losses = await downloadF32(loss);
    return values.reduce((sum, value, t) => (value > 0 ? sum + value * losses[t]! : sum), 0);
  }

  /** The input of the lowest trained layer, and the objective; layers that both models share run once. */
  #belowAndObjective(batch: Batch, scope: Scope): { below?: Tensor; objective: Objective } {
    const { teacher, trained } = this.inputs;
    const { model, lowest } = trained;
    const taught = this.settings.objective === 'kl' ? teacher : undefined;
    if (lowest === undefined) return { objective: this.#objective(batch, scope, taught) };
    const shared = taught ? Math.min(lowest, sharedLayers(taught, model)) : 0;
    const run = (from: number, to: number, input: Tensor): Tensor =>
      from === to ? input : scope.own(forward(model, batch, { from, to, input }));
    const common = run(0, shared, scope.own(embedTokens(model, batch)));
    const below = run(shared, lowest, common);
    // The models may differ in their embeddings.
    const start = shared > 0 ? { from: shared, input: common } : {};
    return { below, objective: this.#objective(batch, scope, taught, start) };
  }

  #objective(
    batch: Batch,
    scope: Scope,
    teacher: Model | undefined,
    start: { from?: number; input?: Tensor } = {},
  ): Objective {
    const { device } = this;
    if (!teacher) {
      const next = batch.sequences.flatMap(sequence => [...sequence.slice(1), 0]);
      return {
        kind: 'lm',
        targets: scope.own(tensorFrom(device, Uint32Array.from(next), [batch.tokens], 'targets')),
      };
    }
    const hidden = scope.own(finalHidden(teacher, batch, start));
    const predictions = predictionsOf(teacher, hidden);
    const { topK } = this.settings;
    if (topK === 'all') return { kind: 'kl', teacher: predictions };
    const top = {
      ids: scope.tensor([batch.tokens, topK], 'u32', 'most likely tokens'),
      logProbabilities: scope.tensor([batch.tokens, topK], 'f32', 'their log-probabilities'),
      logRest: scope.tensor([batch.tokens], 'f32', 'log-probability of the rest'),
    };
    topLogProbabilities(device.recorder, predictions, top);
    return { kind: 'top-kl', teacher: top };
  }

  async heldOut(): Promise<HeldOutScores | undefined> {
    const { trained, heldOut } = this.inputs;
    if (heldOut.length === 0) return undefined;
    const { signal } = this.hooks;
    const { nll, kl } = await evaluate(trained.model, heldOut, {
      batchTokens: this.settings.microBatchTokens,
      ...(this.reference && { against: this.reference }),
      ...(signal && { signal }),
    });
    return { nll, ...(kl !== undefined && { kl }) };
  }

  [Symbol.dispose](): void {
    this.reference?.dispose();
  }
}
