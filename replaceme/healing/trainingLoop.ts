import {
  type Device,
  downloadF32,
  formatNumber,
  liveSums,
  noJournal,
  Scope,
  type Tensor,
} from '../../engine/index.js';
import { adam, addSquaredNorm, axpy } from '../../kernels/index.js';
import { groupSequences } from '../../model/index.js';
import type { RunHooks } from '../run/runHooks.js';
import { type HeldOutPoint, skippedSteps, type TrainingStep } from '../run/trainingRecord.js';
import { DivergenceWatch } from './divergence.js';
import { learningRateAt, type Schedule } from './schedule.js';
import { type OrderPosition, SequenceOrder, type TrainingSequence } from './sequenceOrder.js';
import type { TrainedParameter, TrainingTask } from './trainingTask.js';

/** Settings of a run, which otherwise depends only on the texts and the task. */
export interface LoopSettings extends Schedule {
  /** Most tokens of one step. */
  readonly batchTokens: number;
  /** Most tokens at a time; their gradients add up to those of the step. */
  readonly microBatchTokens: number;
  /** AdamW's weight decay: every step shrinks matrices by learning rate x this share. */
  readonly weightDecay: number;
  /** Gradients with a larger Euclidean norm, over all parameters together, are scaled down to it. */
  readonly clip: number;
  readonly seed: number;
  /** Steps between measurements of the held-out text. */
  readonly evaluateEvery: number;
  /** Steps between checkpoints; 0: none. */
  readonly checkpointEvery: number;
}

/** A run's state besides its tensors; plain JSON. */
export interface LoopState {
  readonly position: OrderPosition;
  readonly steps: readonly TrainingStep[];
  readonly heldOut: readonly HeldOutPoint[];
}

/** Moments of AdamW, one pair for each parameter. */
export interface Moments {
  readonly first: Tensor;
  readonly second: Tensor;
}

interface LoopHooks extends RunHooks {
  /** The state where an earlier run stopped. */
  readonly state?: LoopState | undefined;
  /** Saves the state; the tensors don't change meanwhile. Not called while the run is worse than at its beginning. */
  readonly save?: ((state: LoopState) => Promise<void>) | undefined;
  /** Is told every step and every measurement; a resumed run begins with those that it has from before. */
  readonly onRecord?: ((record: TrainingStep | HeldOutPoint) => void) | undefined;
  /** Advice for a run that has diverged, in a sentence or two. */
  readonly remedy?: (() => string) | undefined;
}

/**
 * Trains with AdamW (decoupled weight decay) on f32 master values: warm-up, half a cosine, clipping by the global norm,
 * gradients accumulated over parts of a step. A step whose loss or gradient is not finite changes nothing and counts as
 * skipped. The same task, texts, settings and state give the same numbers, bit for bit, on the same device.
 *
 * Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization (arXiv:1711.05101, algorithm 2), as
 * torch.optim.AdamW; clipping as torch.nn.utils.clip_grad_norm_.
 * @param moments the parameters' moments, zero at first.
 * @throws RmError DIVERGED after MOST_SKIPPED skipped steps in a row, or when the loss rises far above its initial value.
 */
export async function train(
  device: Device,
  task: TrainingTask,
  texts: readonly TrainingSequence[],
  moments: readonly Moments[],
  settings: LoopSettings,
  { state, save, onRecord, remedy, signal, onProgress, journal = noJournal }: LoopHooks = {},
): Promise<LoopState> {
  using _section = device.section('heal');
  using norm = new GradientNorm(device, task.parameters);
  let order = new SequenceOrder(texts, settings.seed, state?.position);
  const steps = [...(state?.steps ?? [])];
  const heldOut = [...(state?.heldOut ?? [])];
  const tensors = liveSums(namedTensors(task.parameters, moments));
  using _tracking = await journal.track('healing', {
    save: () => ({ ...current(), tensors: tensors.save() }),
    async restore(saved: LoopState & { readonly tensors: unknown }) {
      order = new SequenceOrder(texts, settings.seed, saved.position);
      for (const step of saved.steps) steps.push(step);
      for (const measured of saved.heldOut) heldOut.push(measured);
      await tensors.restore(saved.tensors as never);
    },
  });
  for (const record of inOrder(steps, heldOut)) onRecord?.(record);
  const watch = new DivergenceWatch(steps, remedy);
  const current = (): LoopState => ({ position: order.position, steps, heldOut });
  const measure = async () => {
    const scores = await task.heldOut();
    if (!scores) return;
    heldOut.push({ step: steps.length, ...scores });
    onRecord?.(heldOut.at(-1)!);
    watch.checkHeldOut(heldOut);
  };
  if (heldOut.length === 0) await measure();
  const first = state?.steps.length ?? 0;
  await journal.forEach('healing', settings.steps - first, async index => {
    signal?.throwIfAborted();
    const step = first + index + 1;
    const loss = await lossAndGradients(device, task, order.next(settings.batchTokens), settings);
    const gradientNorm = await norm.measure();
    const learningRate = learningRateAt(step, settings);
    const finite = Number.isFinite(loss) && Number.isFinite(gradientNorm);
    if (finite) {
      const taken = step - skippedSteps(steps);
      const gradientScale = Math.min(1, settings.clip / (gradientNorm + 1e-6));
      const options = { learningRate, step: taken, gradientScale, weightDecay: settings.weightDecay };
      descend(task.parameters, moments, options);
    }
    steps.push({
      ...{ step, learningRate },
      loss: Number.isFinite(loss) ? loss : null,
      gradientNorm: finite ? gradientNorm : null,
    });
    onRecord?.(steps.at(-1)!);
    watch.check();
    await device.recorder.finish();
    if (step % settings.evaluateEvery === 0 || step === settings.steps) await measure();
    onProgress?.({
      ...{ phase: 'heal', done: step, total: settings.steps, unit: 'steps' },
      detail: describeStep(steps.at(-1)!, heldOut.at(-1)),
    });
    const due = settings.checkpointEvery > 0 && step % settings.checkpointEvery === 0;
    if (due && step < settings.steps && watch.isGood()) await save?.(current());
  });
  return current();
}

/** The measurement after a step follows it. */
const inOrder = (
  steps: readonly TrainingStep[],
  heldOut: readonly HeldOutPoint[],
): (TrainingStep | HeldOutPoint)[] => [...steps, ...heldOut].sort((a, b) => a.step - b.step);

/** "loss 0.0213, lr 0.00029, held-out KL 0.0201" */
function describeStep({ loss, learningRate }: TrainingStep, heldOut: HeldOutPoint | undefined): string {
  const score =
    heldOut && (heldOut.kl === undefined ? (['loss', heldOut.nll] as const) : (['KL', heldOut.kl] as const));
  return [
    `loss ${loss === null ? 'not finite' : loss.toPrecision(3)}`,
    `lr ${formatNumber(learningRate, 2)}`,
    ...(score ? [`held-out ${score[0]} ${score[1].toPrecision(3)}`] : []),
  ].join(', ');
}

/** The mean loss of a step's texts; puts its gradients into the parameters' `gradient`. */
async function lossAndGradients(
  device: Device,
  task: TrainingTask,
  texts: readonly TrainingSequence[],
  { microBatchTokens }: LoopSettings,
): Promise<number> {
  for (const { gradient } of task.parameters) device.recorder.clear(gradient);
  const total = texts.reduce((sum, { ids, weight }) => sum + weight * (ids.length - 1), 0);
  let loss = 0;
  const parts = groupSequences(
    texts.map(text => ({ text, length: text.ids.length })),
    microBatchTokens,
  );
  for (const part of parts) {
    loss += await task.addGradients(
      part.map(({ text }) => text),
      1 / total,
    );
  }
  return loss;
}

function descend(
  parameters: readonly TrainedParameter[],
  moments: readonly Moments[],
  options: { learningRate: number; step: number; gradientScale: number; weightDecay: number },
): void {
  for (const [p, { values, gradient, decays, towards }] of parameters.entries()) {
    const { recorder } = values.device;
    const { first, second } = moments[p]!;
    const weightDecay = decays ? options.weightDecay : 0;
    const tensors = { parameters: values, gradient, firstMoment: first, secondMoment: second };
    adam(recorder, tensors, { ...options, weightDecay });
    // (1 - a) p + a t is the decay of p - t.
    if (towards && weightDecay > 0) axpy(recorder, options.learningRate * weightDecay, towards, values);
  }
}

/** All tensors that a run changes, by name. */
export const namedTensors = (
  parameters: readonly TrainedParameter[],
  moments: readonly Moments[],
): Record<string, Tensor> =>
  Object.fromEntries(
    parameters.flatMap(({ name, values }, p) => [
      [`${name} values`, values],
      [`${name} first moment`, moments[p]!.first],
      [`${name} second moment`, moments[p]!.second],
    ]),
  );

/** Moments of parameters, all zero, in `scope`. */
export const zeroMoments = (scope: Scope, parameters: readonly TrainedParameter[]): Moments[] =>
  parameters.map(({ values, name }) => {
    const zero = (order: string) => {
      const tensor = scope.tensor(values.shape, 'f32', `${order} moment of ${name}`);
      scope.device.recorder.clear(tensor);
      return tensor;
    };
    return { first: zero('first'), second: zero('second') };
  });

/** Measures the Euclidean norm of all gradients together: NaN or infinite when one of them is not finite. */
class GradientNorm {
  readonly #total: Tensor;
  readonly #scope: Scope;

  constructor(
    private readonly device: Device,
    private readonly parameters: readonly TrainedParameter[],
  ) {
    this.#scope = new Scope(device);
    this.#total = this.#scope.tensor([1], 'f32', 'squared norm of the gradients');
  }

  async measure(): Promise<number> {
    const { recorder } = this.device;
    recorder.clear(this.#total);
    for (const { gradient } of this.parameters) addSquaredNorm(recorder, gradient, this.#total);
    return Math.sqrt((await downloadF32(this.#total))[0]!);
  }

  [Symbol.dispose](): void {
    this.#scope.dispose();
  }
}
