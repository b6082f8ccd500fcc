import {
  atLeastZero,
  checkArguments,
  ensure,
  type Form,
  listOf,
  objectWith,
  optional,
  whole,
} from '../../engine/index.js';
import { aChat, aTokenizer, manyThings, settingsAmong } from '../arguments/forms.js';
import { totalTokens } from '../transformer/batch.js';
import type { ChatTemplate } from './chat.js';
import type { Document } from './documents.js';
import { type EncodedDocument, encodeDocuments } from './encodeDocuments.js';
import type { Tokenizer } from './tokenizer.js';

/** Settings of `tokenSequences`. */
export interface SequenceOptions {
  /** Most tokens of a sequence. */
  sequenceLength: number;
  /** Total number of tokens (default: all); the last sequence is cut to match it exactly. */
  tokens?: number | undefined;
  /** Fewest tokens of a sequence that is not full, beside what opens it (default 8: shorter ones teach little). */
  shortest?: number;
}

const documentList: Form<unknown> = (value, place) =>
  Array.isArray(value) ? listOf(objectWith('a document'))(value, place) : manyThings(value, place);
const sequenceSettings = settingsAmong<SequenceOptions>({
  sequenceLength: whole(1),
  tokens: optional(atLeastZero),
  shortest: optional(whole()),
});

/** Shorter pieces carry too little context for a sequence of their own. */
const SHORTEST = 8;

/**
 * Packs documents into token sequences, one document after the other. A conversation is rendered by the chat template and
 * starts its own sequence; past `sequenceLength` it continues in the next one. Plain texts are joined by blank lines and
 * fill each sequence to the end. Every sequence of plain text begins with what the tokenizer puts before a text, such as BOS.
 */
export class SequencePacker {
  readonly #opening: readonly number[];
  readonly #gap: readonly number[];
  readonly #room: number;
  /** Tokens of plain text that do not yet fill a sequence. */
  #text: number[] = [];
  #packed = 0;

  private constructor(
    opening: readonly number[],
    gap: readonly number[],
    private readonly sequenceLength: number,
    private readonly shortest: number,
  ) {
    this.#opening = opening;
    this.#gap = gap;
    this.#room = sequenceLength - this.#opening.length;
    ensure(
      Number.isInteger(this.#room) && this.#room >= 1,
      `sequences of ${sequenceLength} tokens leave no room for text`,
      `Give a sequence length of ${opening.length + 1} or more.`,
    );
  }

  /** @throws RmError INVALID_ARGUMENT if `sequenceLength` leaves no room for a token of text. */
  static async open(
    tokenizer: Tokenizer,
    sequenceLength: number,
    shortest = SHORTEST,
  ): Promise<SequencePacker> {
    const gap = await tokenizer.encode('\n\n', { addSpecialTokens: false });
    return new SequencePacker(tokenizer.opening, gap, sequenceLength, shortest);
  }

  /** Tokens of all sequences so far, including those of `rest`. */
  get tokens(): number {
    return this.#packed + (this.#restCounts ? this.#opening.length + this.#text.length : 0);
  }

  get #restCounts(): boolean {
    return this.#text.length >= this.shortest || (this.#text.length > 0 && this.#packed === 0);
  }

  /** Adds a document, encoded without special tokens, and returns the sequences it completes. */
  add({ ids, isChat, continues = false }: EncodedDocument): number[][] {
    const complete = isChat ? this.#pieces(ids) : this.#addText(ids, continues ? [] : this.#gap);
    this.#packed += totalTokens(complete);
    return complete;
  }

  /** Divides a sequence in the middle; both parts begin as sequences do. One of a token stays whole. */
  inTwo(sequence: readonly number[]): number[][] {
    const begins = this.#opening.every((id, i) => sequence[i] === id) ? this.#opening : [];
    const middle = Math.ceil((sequence.length + begins.length) / 2);
    if (middle >= sequence.length) return [[...sequence]];
    return [sequence.slice(0, middle), [...begins, ...sequence.slice(middle)]];
  }

  /** Returns the last, incomplete sequence of plain text unless it is too short to keep. */
  rest(): number[][] {
    return this.#restCounts ? [[...this.#opening, ...this.#text]] : [];
  }

  #addText(ids: readonly number[], gap: readonly number[]): number[][] {
    const text = this.#text.length ? [...this.#text, ...gap, ...ids] : ids;
    const full: number[][] = [];
    let start = 0;
    for (; start + this.#room <= text.length; start += this.#room) {
      full.push([...this.#opening, ...text.slice(start, start + this.#room)]);
    }
    this.#text = text.slice(start);
    return full;
  }

  #pieces(ids: readonly number[]): number[][] {
    const pieces: number[][] = [];
    for (let start = 0; start < ids.length; start += this.sequenceLength) {
      const piece = ids.slice(start, start + this.sequenceLength);
      if (start === 0 || piece.length >= this.shortest) pieces.push(piece);
    }
    return pieces;
  }
}

/** Keeps the first `tokens` tokens of some sequences; cuts the last one to match exactly. */
export function firstTokens(sequences: readonly number[][], tokens: number): number[][] {
  let left = tokens;
  const first: number[][] = [];
  for (const sequence of sequences) {
    if (left <= 0) break;
    first.push(sequence.slice(0, left));
    left -= sequence.length;
  }
  return first;
}

/**
 * Packs encoded documents into token sequences, reading no more of them than it needs; see SequencePacker for the rules.
 *
 * @throws RmError INVALID_ARGUMENT if `sequenceLength` leaves no room for a token of text.
 */
export async function packSequences(
  documents: AsyncIterable<EncodedDocument>,
  tokenizer: Tokenizer,
  options: SequenceOptions,
): Promise<number[][]> {
  const { sequenceLength, tokens = Number.POSITIVE_INFINITY, shortest } = options;
  const packer = await SequencePacker.open(tokenizer, sequenceLength, shortest);
  const sequences: number[][] = [];
  for await (const document of documents) {
    for (const sequence of packer.add(document)) sequences.push(sequence);
    if (packer.tokens >= tokens) break;
  }
  return firstTokens([...sequences, ...packer.rest()], tokens);
}

/**
 * Packs documents into token sequences for evaluation or calibration.
 *
 * @throws RmError as packSequences, and what the documents and the chat template throw.
 */
export async function tokenSequences(
  documents: Iterable<Document> | AsyncIterable<Document>,
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  options: SequenceOptions,
): Promise<number[][]> {
  checkArguments(
    'tokenSequences',
    { documents, tokenizer, chat, options },
    { documents: documentList, tokenizer: aTokenizer, chat: aChat, options: sequenceSettings },
  );
  const encoded = encodeDocuments(documents, tokenizer, chat, { tokens: options.tokens });
  return await packSequences(encoded, tokenizer, options);
}
