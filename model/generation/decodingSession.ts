import { checkArguments, type FormsOf, optional, RmError, whole } from '../../engine/index.js';
import { storedHeadDim } from '../architecture/architecture.js';
import { stateBytes, tokenBytes } from '../architecture/cacheBytes.js';
import { aModel, maybeFunction, maybeSignal, settingsAmong, tokenIds } from '../arguments/forms.js';
import { defaultBatchTokens } from '../transformer/batch.js';
import type { Model } from '../transformer/model.js';
import { checkTokenIds } from '../transformer/transformer.js';
import type { Chosen, Sample } from './chooseTokens.js';
import { Continuation } from './continuation.js';
import { type Continued, Decoder } from './decoder.js';
import { PlaceTable } from './placeTable.js';
import { type SamplingOptions, samplingForms, samplingOf, tokenRandom } from './sampler.js';

/** Settings of a `DecodingSession`. */
export interface SessionOptions {
  /** Most texts that are written at the same time (default 32); more wait for their turn. */
  texts?: number;
  /** Most bytes of keys and values (default: a quarter of what the memory limit leaves when the first text begins). */
  cacheBytes?: number;
}

/** Settings of `DecodingSession.continue`. */
export interface ContinueOptions extends SamplingOptions {
  /** Most new tokens. */
  maxTokens: number;
  /** Tokens that end the text; the ending token is not returned. */
  eosIds?: readonly number[];
  /** Receives all new tokens after each one; true ends the text with it. */
  ended?: (tokens: readonly number[]) => boolean | Promise<boolean>;
  /** Chooses each token on the host from the logits (after the repeat penalty), instead of temperature, topK and topP. */
  sample?: Sample;
  /** Ends the text with the signal's reason. */
  signal?: AbortSignal;
}

/** The forms of `ContinueOptions`. */
export const continueForms: FormsOf<ContinueOptions> = {
  ...samplingForms,
  maxTokens: whole(),
  eosIds: optional(tokenIds),
  ended: maybeFunction,
  sample: maybeFunction,
  signal: maybeSignal,
};
const continueSettings = settingsAmong<ContinueOptions>(continueForms);
/** The forms of `SessionOptions`. */
export const sessionForms: FormsOf<SessionOptions> = {
  texts: optional(whole(1, 2 ** 16)),
  cacheBytes: optional(whole(1)),
};
const sessionSettings = settingsAmong<SessionOptions>(sessionForms);

/** New tokens for which a text has room at first. */
const FIRST_ROOM = 256;
/** Tokens of a prompt that are computed in one step: others that are being written wait for them. */
const PROMPT_PART = 512;

/** All that asks in one turn of the event loop goes together. */
const turn = () => new Promise<void>(resolve => setImmediate(resolve));

/** Tokens that a prompt leaves room for. @throws RmError INVALID_ARGUMENT for an empty prompt, or where it is none. */
function roomAfter(prompt: readonly number[], { arch: { contextLength } }: Model): number {
  const room = contextLength - prompt.length;
  if (prompt.length > 0 && room >= 1) return room;
  throw new RmError(
    'INVALID_ARGUMENT',
    `the prompt has ${prompt.length} tokens, but the model's context is ${contextLength}`,
    'Use a prompt of at least one token that leaves room for new ones.',
  );
}

/**
 * Continues texts token by token, any number at the same time: they join and leave between steps, and each step computes a
 * token of every text (continuous batching). Keys and values stay in one cache of bounded size; texts wait where it has no
 * room. A text that begins like an earlier one, as the next turn of a conversation does, computes only what is new.
 */
export class DecodingSession {
  readonly #model: Model;
  readonly #options: SessionOptions;
  #decoder: Decoder | undefined;
  #places: PlaceTable | undefined;
  /** In the order in which they asked. */
  #waiting: Continuation[] = [];
  /** Those with a place, in the order in which they got it. */
  #open: Continuation[] = [];
  #running: Promise<void> | undefined;
  #stepping = false;

  constructor(model: Model, options: SessionOptions = {}) {
    checkArguments('DecodingSession', { model, options }, { model: aModel, options: sessionSettings });
    this.#model = model;
    this.#options = options;
  }

  /** Texts that are being written, and texts that wait for room. */
  get texts(): { readonly open: number; readonly waiting: number } {
    return { open: this.#open.length, waiting: this.#waiting.length };
  }

  /**
   * Returns the tokens after `sequence` as they are read: `for await (const id of session.continue(...))`. Alone, a token is
   * computed when it is asked for; beside others a text may be two tokens ahead, so that a slow reader does not hold up
   * the rest. Greedy texts are the same whatever is written beside them.
   *
   * @throws RmError INVALID_ARGUMENT for an empty sequence, one that leaves no room in the model's context or that the cache
   *   can never hold.
   */
  continue(sequence: readonly number[], options: ContinueOptions): Continuation {
    checkArguments('continue', { sequence, options }, { sequence: tokenIds, options: continueSettings });
    const { maxTokens, eosIds = [], repeatPenalty = 1, sample, ended, signal } = options;
    const inContext = roomAfter(sequence, this.#model);
    checkTokenIds(this.#model, sequence);
    const plan = {
      ...{ limit: Math.min(maxTokens, inContext, this.#cacheRoom(sequence)), eosIds, ended, signal },
      ...{ sampling: samplingOf(options), repeatPenalty, sample, draw: tokenRandom(options.seed) },
    };
    return new Continuation(sequence, plan, {
      wanted: text => this.#wanted(text),
      left: text => this.#left(text),
    });
  }

  /** New tokens that the cache can ever hold after a prompt. */
  #cacheRoom({ length }: readonly number[]): number {
    const { most } = this.#table();
    if (length < most) return most - length;
    const bytes = tokenBytes(this.#model.arch);
    throw new RmError(
      this.#options.cacheBytes === undefined ? 'OUT_OF_MEMORY' : 'INVALID_ARGUMENT',
      `the KV cache needs room for the prompt's ${length} tokens and a new one, but may hold ${most}, at ${bytes} bytes each`,
      'Use a shorter prompt, or allow more `cacheBytes` or device memory.',
    );
  }

  #table(): PlaceTable {
    if (this.#places) return this.#places;
    const { device, arch } = this.#model;
    const { memory, limits } = device;
    const { texts = 32, cacheBytes = Math.floor((memory.limit - memory.liveBytes) / 4) } = this.#options;
    // Keys of a layer are one buffer, which kernels bind.
    const bindable = limits.maxStorageBufferBindingSize / (4 * arch.kvHeads * storedHeadDim(arch));
    const left = Math.max(0, cacheBytes - texts * stateBytes(arch));
    const most = Math.floor(Math.min(left / Math.max(1, tokenBytes(arch)), bindable));
    this.#decoder = new Decoder(this.#model, texts);
    this.#places = new PlaceTable(this.#decoder, texts, most);
    return this.#places;
  }

  #wanted(text: Continuation): void {
    if (text.place === undefined && !this.#waiting.includes(text)) this.#waiting.push(text);
    this.#running ??= this.#run();
  }

  #left(text: Continuation): void {
    this.#waiting = this.#waiting.filter(other => other !== text);
    if (text.place !== undefined) this.#leavePlace(text);
    // Those that wait may have room now.
    if (this.#waiting.length > 0) this.#running ??= this.#run();
  }

  #leavePlace(text: Continuation): void {
    this.#open = this.#open.filter(other => other !== text);
    this.#places?.leave(text.place!);
    text.place = undefined;
  }

  /** Steps until no text wants a token. */
  async #run(): Promise<void> {
    for (;;) {
      await turn();
      this.#admit();
      const alone = this.#open.length === 1;
      const going = this.#open.filter(text => text.wants(alone));
      if (going.length === 0) {
        // At once: who asks from now on starts it again.
        this.#running = undefined;
        return;
      }
      this.#stepping = true;
      for (const text of going) text.stepping = true;
      const chosen = await this.#step(going).catch(error => {
        for (const text of going) text.fail(error);
        return [];
      });
      this.#stepping = false;
      for (const text of going) text.stepping = false;
      await Promise.all(chosen.map(settle));
    }
  }

  /** Lets texts join in the order in which they came, as far as there is room. */
  #admit(): void {
    for (let text = this.#waiting[0]; text; text = this.#waiting[0]) {
      const { tokens, promptTokens, plan } = text;
      const room = Math.min(promptTokens + plan.limit, tokens.length + FIRST_ROOM);
      try {
        const entered = this.#table().enter(tokens, room);
        if (!entered) return;
        this.#waiting.shift();
        this.#open.push(text);
        text.entered(entered.place, entered.reused);
      } catch (error) {
        text.fail(error);
      }
    }
  }

  /** Computes the next token of these texts, or a part of their prompts. */
  async #step(going: readonly Continuation[]): Promise<Settled[]> {
    const decoder = this.#decoder!;
    const part = this.#promptPart();
    const ready: (Continued & { readonly text: Continuation })[] = [];
    let prompts = 0;
    for (const text of going) {
      if (!this.#makeRoom(text)) continue;
      const { plan, tokens } = text;
      const continued = { ...plan, tokens, place: text.place!, text, random: 0 };
      const missing = decoder.missing(continued);
      if (missing > 1) {
        if (prompts >= part) continue;
        prompts += Math.min(missing, part);
      }
      if (missing > part) await decoder.fill(continued, part).catch(error => text.fail(error));
      else ready.push({ ...continued, random: plan.draw() });
    }
    // Who was stopped meanwhile may have lost its place.
    const still = ready.filter(({ text, place }) => text.place === place);
    const chosen = still.length > 0 ? await decoder.next(still) : [];
    return chosen.map((each, at) => ({ text: still[at]!.text, chosen: each }));
  }

  /** Parts begin where a text's own tokens say, so that neighbours do not change them. */
  #promptPart(): number {
    const { arch, device, isOffloaded } = this.#model;
    // Frequencies of longrope depend on the length of the whole text.
    if (arch.ropes.some(({ kind }) => kind === 'longrope')) return Number.POSITIVE_INFINITY;
    const most = defaultBatchTokens(device, arch);
    // Layers that are away arrive anew for each part.
    return isOffloaded ? most : Math.min(most, PROMPT_PART);
  }

  /** Makes room for a text's next token; where there is none, the text that joined last waits again. */
  #makeRoom(text: Continuation): boolean {
    const places = this.#places!;
    const { tokens, promptTokens, plan } = text;
    if (text.place === undefined) return false;
    if (tokens.length <= this.#decoder!.roomOf(text.place)) return true;
    const wanted = Math.min(promptTokens + plan.limit, Math.ceil(1.5 * tokens.length) + FIRST_ROOM);
    if (places.grow(text.place, wanted)) return true;
    while (!places.grow(text.place, tokens.length)) {
      const last = this.#open.at(-1)!;
      this.#leavePlace(last);
      this.#waiting.unshift(last);
      if (last === text) return false;
    }
    return true;
  }

  /** Resolves once nothing is being computed. */
  async settled(): Promise<void> {
    await this.#running;
  }

  /** Frees its tensors; texts that are being written fail. */
  dispose(): void {
    const [decoder, running] = [this.#decoder, this.#stepping ? this.#running : undefined];
    this.#decoder = undefined;
    this.#places = undefined;
    const disposed = new RmError(
      'INVALID_ARGUMENT',
      'the DecodingSession is disposed',
      'Dispose it after its last text.',
    );
    for (const text of [...this.#open, ...this.#waiting]) text.fail(disposed);
    if (running) void running.then(() => decoder?.dispose());
    else decoder?.dispose();
  }

  /** `dispose`, for `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

interface Settled {
  readonly text: Continuation;
  readonly chosen: Chosen;
}

async function settle({ text, chosen }: Settled): Promise<void> {
  if ('error' in chosen) return text.fail(chosen.error);
  try {
    await text.add(chosen.token);
  } catch (error) {
    text.fail(error);
  }
}
