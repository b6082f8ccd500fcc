import type { DeviceFacts } from '../../engine/index.js';
import {
  type Architecture,
  attendedColumns,
  cacheBytes,
  mostFeatures,
  type StatePlacement,
} from '../../model/index.js';
import { plannedStates, roomFor } from '../activations/hiddenStates.js';
import type { CalibrationSizes } from '../calibration/sizes.js';
import { type FitBytes, type FitCost, type FitRun, healingCost } from '../fits/fitCost.js';
import { KEPT_BYTES } from '../fits/refitPass.js';
import { type HealingWork, healingMemory } from '../healing/healingCost.js';
import { fitsInClosedForm } from '../request/needs.js';
import type { PruneRequest } from '../request/request.js';
import { layerFlops } from '../run/computeRate.js';
import type { Extent } from '../run/reportExtent.js';
import { lastRemoved } from '../run/window.js';
import { repairsApart } from '../selections/candidateRounds.js';
import type { HealingSample } from '../selections/healingSample.js';
import type { SelectionTokens } from '../selections/selection.js';
import {
  activationBytes,
  heldBytes,
  largestBatch,
  layerElements,
  type Placement,
  scoringBytes,
  type WeightSizes,
} from './memoryParts.js';
import { allSumsBytes, residentMapBytes } from './profilePlan.js';

/** What a run is as far as its memory depends on it. */
export interface MemorySizes extends WeightSizes, CalibrationSizes {
  readonly request: PruneRequest;
  /** Calibration tokens that the selection walks through all layers, and those of which it keeps hidden states. */
  readonly rankedTokens: number;
  readonly selecting: SelectionTokens;
  readonly device: DeviceFacts;
  /** Tokens that go through the window map at a time. */
  readonly mapGroup: number;
  /** Bytes of the device that other work holds all the time. */
  readonly besides?: number;
  /** On how many tokens ways of healing are compared, where that is left to the run. */
  readonly comparing?: HealingSample;
  /** Healing by gradient, if requested. */
  readonly healing?: HealingWork;
  /** Number type of hidden states on the host. */
  readonly hostStates: StatePlacement['dtype'];
  /** Tokens that models are measured on for a report; 0 where there is none. */
  readonly evaluationTokens: number;
  /** How much the report measures, where somebody said it; whether somebody chose its tokens. */
  readonly report?: Extent;
  readonly fixedTokens: boolean;
}

/** Bytes of the f32 tiles in which weights are summed, two of them at a time. */
const SUM_TILE = 2 ** 26;
/** Tokens of a sample's prompt and continuation, about. */
const SAMPLE_TOKENS = 256;
/** Models whose layers a report compares: the original, plain removal, the fit and the result. */
const COMPARED_MODELS = 4;

/** Of several fits after each other the one that needs most. */
const most = (of: (bytes: FitBytes) => number, fits: readonly FitBytes[]) => Math.max(0, ...fits.map(of));

/** The run as its fits cost, on so many tokens. */
export const fitRun = (
  { request: { arch, settings, windows }, sequenceLength }: MemorySizes,
  tokens: number,
): FitRun => ({
  ...{ arch, settings, windows, tokens },
  ...{ layer: layerFlops(arch, sequenceLength), keepsInner: false },
});

/** Bytes of the device that the steps of a run take, each on its own, with weights and hidden states placed so. */
export class MemorySteps {
  /** Weights that are there where so many layers are of use. */
  readonly held: (layers: number) => number;
  /** Whether calibration tokens go through the model. */
  readonly fits: boolean;
  /** Layers that are healed, and new weights of one; of streamed ones those that are not in use wait on the disk. */
  readonly healed: number;
  readonly healedLayer: number;
  /** o_proj and down_proj of one layer. */
  readonly projections: number;
  /** New weights of healed layers, and all that are new. */
  readonly fresh: number;
  readonly changed: number;
  /** Of one layer over a batch; and of one that is fitted. */
  readonly passing: number;
  readonly fitted: number;
  /** The fits of one healed layer; undefined where none is healed. */
  readonly healing: FitCost | undefined;
  /** Kept from the walk that ranks windows, and between the layers while others are judged. */
  readonly hiddenStates: number;
  readonly selectionSpare: number;

  readonly #arch: Architecture;
  readonly #resident: boolean;
  readonly #onDevice: boolean;
  /** Whether what would be computed more than once is kept. */
  readonly #keeps: boolean;
  /** A batch in the last norm and the tiles of logits, or in a layer; the f32 tiles in which weights are summed. */
  readonly #judging: number;
  readonly #summing: number;
  /** Most bytes that are only taken for speed. */
  readonly #room: number;

  constructor(
    private readonly sizes: MemorySizes,
    { weights, states }: Placement,
    /** Bytes that may be taken for speed alone, as far as the placement keeps anything for it (default: by `roomFor`). */
    room?: number,
  ) {
    const { request, layerBytes, outerBytes, weightBytes, tokens, device, selecting } = sizes;
    const batchTokens = largestBatch(sizes);
    const { arch, method, settings, windows, windowCount, count } = request;
    const { hidden, layers } = arch;
    const widest = mostFeatures(arch);
    this.#arch = arch;
    this.#resident = weights === 'device';
    this.#onDevice = states.place === 'device';
    this.#keeps = states.keepsInner && this.#onDevice;
    const own = heldBytes(sizes, weights, layers);
    this.held = of => own(of) + (sizes.besides ?? 0);
    this.fits = fitsInClosedForm(request);

    const activations = (hiddenColumns: number, features: number) =>
      activationBytes(arch, batchTokens, hiddenColumns + (this.#onDevice ? 0 : 2), features);
    // Norms, Y, queries, keys, values, what is attended to, MLP features; and the layer's input and output, where these
    // are not among the states of all tokens.
    this.passing = activations(4, 1);
    const after = windows ? layers - lastRemoved(windows[0]!) - 1 : layers - count - 1;
    this.healed = settings.heal ? after : 0;
    this.healing = this.healed > 0 ? healingCost(fitRun(sizes, tokens)) : undefined;
    // Besides M or the weighted rows, what is missing, and targets; of a refit of down_proj the features twice.
    const refitsMlp = [this.#cut(tokens), this.healing].some(cost => cost?.refits?.mlp);
    this.fitted = refitsMlp ? activations(6, 2) : activations(7, 1);
    this.#judging = Math.max(this.passing, scoringBytes(arch, batchTokens));

    const perElement = layerBytes / layerElements(arch);
    const attended = attendedColumns(arch);
    this.projections = hidden * (attended + widest) * perElement;
    this.healedLayer =
      this.healing?.refits?.mlp === false ? hidden * attended * perElement : this.projections;
    this.fresh = (this.#resident ? this.healed : Math.min(1, this.healed)) * this.healedLayer;
    const cuts = windows?.length ?? selecting.windows ?? windowCount;
    const atCuts = {
      down_proj: this.fits ? cuts * this.projections : 0,
      layers: cuts * layerBytes,
      'all before': layers * this.projections + outerBytes,
    };
    const { changes } = method;
    this.changed = this.#resident ? atCuts[changes ?? 'down_proj'] + this.fresh : this.projections;
    const largest = Math.max(widest, changes === 'all before' ? arch.vocab : 0);
    this.#summing = changes ? 2 * Math.min(SUM_TILE, 4 * hidden * largest) : 0;

    const { judged = 0, repaired = 0, kept = 0 } = selecting;
    const speeds = this.#keeps && this.#resident;
    this.hiddenStates =
      speeds && !windows && (repaired > 0 || this.fits)
        ? plannedStates(arch, Math.min(tokens, kept), room ?? roomFor(device, weightBytes)).bytes
        : 0;
    const spare =
      room === undefined ? roomFor(device, weightBytes + this.hiddenStates) / 2 : room - this.hiddenStates;
    // What is left on a GPU is filled even where hidden states are not kept: each group of the window map is a walk.
    this.#room = speeds || (room !== undefined && this.#resident) ? spare : 0;
    const sums = repaired > 0 ? allSumsBytes({ arch, longest: this.#longest }) : 0;
    const useful = windows || judged === 0 ? 0 : Math.max(this.#between(judged), sums);
    this.selectionSpare = Math.min(this.#room, useful);
  }

  /** Hidden states of so many tokens, as far as they stay on the device. */
  all(tokens: number): number {
    return this.#onDevice ? this.#stream(tokens) : 0;
  }

  /** What a refit keeps of so many tokens so as not to compute it again. */
  #kept(tokens: number, { refits }: FitCost): number {
    if (!this.#keeps || !refits) return 0;
    const { intermediate } = this.#arch;
    const attended = 4 * tokens * attendedColumns(this.#arch);
    if (!refits.mlp) return attended;
    return attended + this.#stream(tokens) + Math.min(KEPT_BYTES, 4 * tokens * intermediate);
  }

  /** The fits before a cut over so many tokens. */
  #cut(tokens: number): FitCost | undefined {
    return this.sizes.request.method.fitCost?.(fitRun(this.sizes, tokens));
  }

  /** Sums of all fits of a run, what solving takes besides, and what is kept of the tokens for them. */
  statistics(tokens: number): number {
    const bytes = (cost: FitCost) =>
      most(({ sums, solve }) => sums + solve, cost.memory) + this.#kept(tokens, cost);
    return Math.max(0, ...[this.#cut(tokens), this.healing].map(cost => (cost ? bytes(cost) : 0)));
  }

  /** A repair on so many tokens; healing goes on to the next layer, a fit alone stays where it is. */
  repairing(tokens: number): number {
    const { held, healing } = this;
    const healed = healing ? held(2) + this.#working(tokens, healing) + 3 * this.all(tokens) + this.fresh : 0;
    return Math.max(this.#unhealed(tokens), healed);
  }

  /** The same without healing. */
  #unhealed(tokens: number): number {
    const { held } = this;
    const { request } = this.sizes;
    const all = this.all(tokens);
    const cut = this.#cut(tokens);
    return Math.max(
      held(2) + (this.fits ? this.passing + 2 * all : 0),
      cut ? held(1) + this.#working(tokens, cut) + (2 + (cut.streams ?? 0)) * all : 0,
      request.method.changes ? held(2) + this.#summing + this.changed : 0,
    );
  }

  /** Hidden states of all tokens that the run keeps side by side. */
  get streams(): number {
    if (!this.fits) return 0;
    return Math.max(2 + (this.#cut(1)?.streams ?? 0), this.healed > 0 ? 3 : 0);
  }

  /** Host memory of the fits before a cut, besides hidden states. */
  get hostBytes(): number {
    return this.#cut(1)?.host ?? 0;
  }

  /** One fit at a time, with what it keeps. */
  #working(tokens: number, cost: FitCost): number {
    const bytes = most(({ sums, solve }) => sums + Math.max(solve, this.fitted), cost.memory);
    return bytes + this.#kept(tokens, cost);
  }

  /** How many layers back a window's outputs are needed. */
  get reach(): number {
    const { windows, count, windowCount } = this.sizes.request;
    return windows ? 0 : count / windowCount + 1;
  }

  /** Outputs as far back as a window reaches, of one batch or, where layers are streamed, of all. */
  get ranked(): number {
    const { tokens, rankedTokens } = this.sizes;
    const walked = this.#resident ? largestBatch(this.sizes) : tokens;
    return this.all(Math.min(walked, rankedTokens)) * this.reach;
  }

  /** The selection of windows. */
  selecting(): number {
    const { held, hiddenStates, selectionSpare: spare } = this;
    const { request, selecting, besides = 0 } = this.sizes;
    const { judged = 0, repaired = 0, healed = 0, rounds } = selecting;
    if (request.windows) return 0;
    // Streamed layers need one that goes layer by layer.
    if (judged === 0 || !this.#resident) return held(2) + this.passing + this.ranked + hiddenStates;
    const reference = this.#stream(judged) + Math.min(spare, this.#between(judged));
    const judging = held(2) + Math.max(this.changed, this.#patches) + Math.max(this.#summing, this.#judging);
    if (repaired === 0) return reference + judging;
    const mapped = { ...this.sizes, arch: this.#arch, longest: this.#longest, tokens: repaired };
    const map = besides + residentMapBytes(mapped, spare);
    const best = healed > 0 ? this.repairing(healed) : 0;
    const first = this.#patches + this.#unhealed(rounds?.repaired ?? 0);
    const repairs = Math.max(this.#unhealed(repaired), best, first, judging);
    return hiddenStates + Math.max(map, reference + repairs);
  }

  /** New weights of all windows of the first round, at the most. */
  get #patches(): number {
    const { request, selecting } = this.sizes;
    if (!selecting.rounds || !this.fits || !repairsApart(request.method)) return 0;
    const windows = selecting.rounds.sets.reduce((sum, { length }) => sum + length, 0);
    return windows * this.projections;
  }

  /** The choice of what is healed. */
  choosingHealing(): number {
    const { comparing } = this.sizes;
    if (!comparing) return 0;
    const { judged, healed } = comparing;
    const reference = this.#resident ? this.#stream(judged) : 0;
    return this.hiddenStates + reference + Math.max(this.repairing(healed), this.#scoring());
  }

  /** Models on texts for the report. */
  measuring(): number {
    const { evaluationTokens: tokens } = this.sizes;
    return tokens === 0 ? 0 : this.#scoring() + (this.#resident ? this.#stream(tokens) : 0);
  }

  /** A model that predicts tokens. */
  #scoring(): number {
    return this.held(2) + this.changed + this.#judging;
  }

  /** Models layer by layer, and what they write. */
  comparing(): number {
    const { evaluationTokens: tokens } = this.sizes;
    if (tokens === 0) return 0;
    const beside = this.#resident
      ? this.#stream(Math.min(largestBatch(this.sizes), tokens)) * COMPARED_MODELS
      : 0;
    const cache = this.#resident ? cacheBytes(this.#arch, SAMPLE_TOKENS) : 0;
    return this.held(2) + this.changed + Math.max(beside + this.passing, cache);
  }

  /** What may be kept for speed while models are measured, which then takes no more than `total`. */
  evaluationSpare(total: number): number {
    const { evaluationTokens: tokens } = this.sizes;
    return tokens === 0 ? 0 : Math.min(this.#room, this.#between(tokens), total - this.measuring());
  }

  /** Healing by gradient, beside the weights. */
  training(): number | undefined {
    const work = this.sizes.healing && healingMemory(this.sizes.healing);
    return work && work.training + work.activations + work.heldOut;
  }

  get #longest(): number {
    return Math.max(1, this.sizes.request.count);
  }

  #stream(tokens: number): number {
    return 4 * tokens * this.#arch.hidden;
  }

  /** Hidden states between all layers. */
  #between(tokens: number): number {
    return this.#stream(tokens) * (this.#arch.layers - 1);
  }
}
