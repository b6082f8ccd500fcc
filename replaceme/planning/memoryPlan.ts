import { STAGING_BYTES } from '../../engine/index.js';
import type { Placement } from './memoryParts.js';
import { type MemorySizes, MemorySteps, most } from './memorySteps.js';

/** Memory in bytes, by what it is for; each part at its largest. */
export interface PlannedMemory {
  /** With the new weights of healed layers, as far as they stay on the device. */
  readonly weights: number;
  readonly activations: number;
  readonly statistics: number;
  /** Of all calibration tokens, what the original model and the pruned one give to a layer. */
  readonly layerInputs: number;
  /** Kept from the walk that ranks windows, so that the fit need not compute them again. */
  readonly hiddenStates: number;
  /** May be kept beside these for speed while windows are selected. */
  readonly selectionSpare: number;
  /** May be kept for speed while models are measured for the report. */
  readonly evaluationSpare: number;
  /** Of healing by gradient: what is trained, its gradients and moments, activations, held-out states. */
  readonly healing?: number;
  /** Of the device, at the step that needs most: not all parts are there at the same time. */
  readonly total: number;
  /** Of the host, hidden states that wait there for their turn. */
  readonly host: number;
  /** Of the host, on the way to the device: a piece of a tensor that is read, and what the driver copies. */
  readonly staging: number;
  /** Of the disk of the output, new weights of streamed layers that wait there for their turn. */
  readonly disk: number;
}

/** What a run of these sizes takes with weights and hidden states placed so. */
export function plannedMemory(sizes: MemorySizes, placement: Placement): PlannedMemory {
  const { request, tokens } = sizes;
  const steps = new MemorySteps(sizes, placement);
  const { fits, healed, fresh, passing, hiddenStates, selectionSpare } = steps;
  const weights = steps.held(2) + fresh;
  const training = steps.training();
  const total = Math.max(
    steps.selecting(),
    steps.repairing(tokens),
    steps.measuring(),
    steps.comparing(),
    training === undefined ? 0 : weights + training,
  );
  const streams = fits ? (healed > 0 ? 3 : 2) : 0;
  const { place, dtype } = placement.states;
  const onHost = place === 'host' ? (dtype === 'f32' ? 4 : 2) * tokens * request.arch.hidden : 0;
  return {
    weights,
    activations: Math.max(passing + steps.ranked, fits ? steps.fitted : 0),
    statistics:
      most(bytes => bytes.sums + bytes.solve, [...steps.cutFits(tokens), ...steps.healingFits]) +
      steps.kept(tokens),
    layerInputs: streams * steps.all(tokens),
    hiddenStates,
    selectionSpare,
    evaluationSpare: steps.evaluationSpare(total),
    ...(training !== undefined && { healing: training }),
    total,
    host: onHost * Math.max(steps.reach, streams),
    staging: STAGING_BYTES,
    disk: placement.weights === 'device' || !fits ? 0 : (healed + 1) * steps.projections,
  };
}
