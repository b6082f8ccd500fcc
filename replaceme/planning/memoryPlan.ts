import { STAGING_BYTES } from '../../engine/index.js';
import { HEADROOM, type Placement } from './memoryParts.js';
import { type MemorySizes, MemorySteps } from './memorySteps.js';

/** Memory in bytes by purpose, each part at its peak. */
export interface PlannedMemory {
  /** Weights, with the new ones of healed layers that stay on the device. */
  readonly weights: number;
  readonly activations: number;
  readonly statistics: number;
  /** Hidden states of all calibration tokens: the inputs of one layer in the original model and in the pruned one. */
  readonly layerInputs: number;
  /** Hidden states kept from the selection, so that the fit need not recompute them. */
  readonly hiddenStates: number;
  /** Further bytes that the selection may use for speed. */
  readonly selectionSpare: number;
  /** Bytes that the evaluation for the report may use for speed. */
  readonly evaluationSpare: number;
  /** Healing by gradient: trained weights, their gradients and moments, activations, held-out states. */
  readonly healing?: number;
  /** Device memory at the step that needs most. The parts above do not all peak there. */
  readonly total: number;
  /** Host memory for hidden states placed there, and for what a fit keeps there. */
  readonly host: number;
  /** Host memory for uploads: the buffers that the device copies from. */
  readonly staging: number;
  /** Disk space beside the output for spilled weights of offloaded layers. */
  readonly disk: number;
}

/** The step that needs most. */
function totalOf(steps: MemorySteps, tokens: number): number {
  const training = steps.training();
  return Math.max(
    ...[steps.selecting(), steps.choosingHealing(), steps.repairing(tokens)],
    ...[steps.measuring(), steps.comparing()],
    training === undefined ? 0 : steps.held(2) + steps.fresh + training,
  );
}

/** What a GPU with a limit has left for speed: all that the steps do not need. Undefined on others, where `roomFor` says it. */
function speedRoom(sizes: MemorySizes, placement: Placement): number | undefined {
  const { info, memory } = sizes.device;
  if (info.kind === 'software' || !Number.isFinite(memory.limit)) return undefined;
  const needed = totalOf(new MemorySteps(sizes, placement, 0), sizes.tokens);
  return Math.max(0, memory.limit / HEADROOM - needed);
}

/** The memory of a run of these sizes under a placement. */
export function plannedMemory(sizes: MemorySizes, placement: Placement): PlannedMemory {
  const { request, tokens } = sizes;
  const steps = new MemorySteps(sizes, placement, speedRoom(sizes, placement));
  const { fits, healed, fresh, passing, hiddenStates, selectionSpare } = steps;
  const weights = steps.held(2) + fresh;
  const training = steps.training();
  const total = totalOf(steps, tokens);
  const { place, dtype } = placement.states;
  const onHost = place === 'host' ? (dtype === 'f32' ? 4 : 2) * tokens * request.arch.hidden : 0;
  return {
    weights,
    activations: Math.max(passing + steps.ranked, fits ? steps.fitted : 0),
    statistics: steps.statistics(tokens),
    layerInputs: steps.streams * steps.all(tokens),
    hiddenStates,
    selectionSpare,
    evaluationSpare: steps.evaluationSpare(total),
    ...(training !== undefined && { healing: training }),
    total,
    host: onHost * Math.max(steps.reach, steps.streams) + steps.hostBytes,
    staging: STAGING_BYTES,
    disk: placement.weights === 'device' || !fits ? 0 : healed * steps.healedLayer + steps.projections,
  };
}
