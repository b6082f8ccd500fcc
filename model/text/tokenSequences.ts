import { ensure } from '../../engine/index.js';
import { totalTokens } from '../transformer/batch.js';
import { type ChatTemplate, encodeDocument } from './chat.js';
import type { Document } from './documents.js';
import type { Tokenizer } from './tokenizer.js';

/** How documents become token sequences. */
export interface SequenceOptions {
  /** Longest sequence. */
  sequenceLength: number;
  /** Tokens wanted in all (default: everything); the last sequence is cut to end exactly there. */
  tokens?: number;
}

/** Pieces shorter than this carry too little context to be worth a sequence of their own. */
const SHORTEST = 8;

/**
 * Makes token sequences of documents, one document after the other. A conversation goes through the chat template and
 * starts a sequence of its own; if it is longer than `sequenceLength` it continues in the next one. Plain texts follow one
 * another, an empty line between, and fill sequences to the end, each beginning with the tokenizer's own first token
 * (BOS) where it has one.
 */
export class SequencePacker {
  readonly #opening: readonly number[];
  readonly #gap: readonly number[];
  readonly #room: number;
  /** Tokens of text that fill no sequence yet. */
  #text: number[] = [];
  #packed = 0;

  /** @throws RmError INVALID_ARGUMENT where `sequenceLength` has no room for a token of text. */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly chat: ChatTemplate,
    private readonly sequenceLength: number,
  ) {
    this.#opening = tokenizer.encode('').slice(0, 1);
    this.#gap = tokenizer.encode('\n\n', { addSpecialTokens: false });
    this.#room = sequenceLength - this.#opening.length;
    ensure(
      Number.isInteger(this.#room) && this.#room >= 1,
      `sequences of ${sequenceLength} tokens have no room for text`,
      'Give a sequence length of 2 or more.',
    );
  }

  /** Tokens of all sequences so far, those of `rest` included. */
  get tokens(): number {
    return this.#packed + (this.#restCounts ? this.#opening.length + this.#text.length : 0);
  }

  get #restCounts(): boolean {
    return this.#text.length >= SHORTEST || (this.#text.length > 0 && this.#packed === 0);
  }

  /** The sequences that are complete with this document. Throws as encodeDocument. */
  add(document: Document): number[][] {
    const complete = 'text' in document ? this.#addText(document.text) : this.#pieces(document);
    this.#packed += totalTokens(complete);
    return complete;
  }

  /** What is left of the texts at the end, unless it is too short beside the rest. */
  rest(): number[][] {
    return this.#restCounts ? [[...this.#opening, ...this.#text]] : [];
  }

  #addText(added: string): number[][] {
    const ids = this.tokenizer.encode(added, { addSpecialTokens: false });
    const text = this.#text.length ? [...this.#text, ...this.#gap, ...ids] : ids;
    const full: number[][] = [];
    let start = 0;
    for (; start + this.#room <= text.length; start += this.#room) {
      full.push([...this.#opening, ...text.slice(start, start + this.#room)]);
    }
    this.#text = text.slice(start);
    return full;
  }

  #pieces(conversation: Document): number[][] {
    const ids = encodeDocument(conversation, this.tokenizer, this.chat);
    const pieces: number[][] = [];
    for (let start = 0; start < ids.length; start += this.sequenceLength) {
      const piece = ids.slice(start, start + this.sequenceLength);
      if (start === 0 || piece.length >= SHORTEST) pieces.push(piece);
    }
    return pieces;
  }
}

/** The first `tokens` tokens of some sequences; the last one is cut to end exactly there. */
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
 * Token sequences of documents, as SequencePacker makes them.
 *
 * @throws RmError INVALID_ARGUMENT where `sequenceLength` has no room for a token of text; as encodeDocument.
 */
export async function tokenSequences(
  documents: Iterable<Document> | AsyncIterable<Document>,
  tokenizer: Tokenizer,
  chat: ChatTemplate,
  { sequenceLength, tokens = Number.POSITIVE_INFINITY }: SequenceOptions,
): Promise<number[][]> {
  const packer = new SequencePacker(tokenizer, chat, sequenceLength);
  const sequences: number[][] = [];
  for await (const document of documents) {
    sequences.push(...packer.add(document));
    if (packer.tokens >= tokens) break;
  }
  return firstTokens([...sequences, ...packer.rest()], tokens);
}
