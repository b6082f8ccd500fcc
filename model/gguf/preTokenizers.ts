import { isRecord } from '../files/jsonFile.js';

/**
 * How byte-level BPE splits a text into words before merging. llama.cpp identifies it by name (tokenizer.ggml.pre),
 * tokenizer.json spells it out. Source: llama.cpp's llama-vocab.cpp, and the tokenizer.json of the models named.
 */
interface PreTokenizer {
  /** Names in llama.cpp; the first is written. */
  readonly names: readonly string[];
  /** "pre_tokenizer" of tokenizer.json. */
  readonly definition: Record<string, unknown>;
  readonly normalizer: Record<string, unknown> | null;
  /** Whether a word that is itself a token skips the merges. */
  readonly ignoreMerges: boolean;
  /** Whether llama.cpp prepends BOS if the file does not say. */
  readonly addsBos: boolean;
}

const sequence = (...pretokenizers: Record<string, unknown>[]) => ({ type: 'Sequence', pretokenizers });
const byteLevel = (regex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: regex,
});
const split = (regex: string) => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});
const digits = (individual: boolean) => ({ type: 'Digits', individual_digits: individual });

/** Splits into contractions, letters, digits (grouped by `numbers`), other characters, line ends and spaces. */
const words = (numbers: string) =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${numbers}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const upper = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]';
const lower = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]';
const tekken = `[^\\r\\n\\p{L}\\p{N}]?${upper}*${lower}+|[^\\r\\n\\p{L}\\p{N}]?${upper}+${lower}*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const plain = { normalizer: null, ignoreMerges: false, addsBos: false } as const;

export const preTokenizers: readonly PreTokenizer[] = [
  {
    ...plain,
    names: ['gpt-2', 'phi-2', 'mpt', 'olmo', 'jais', 'roberta-bpe', 'jina-es', 'jina-de', 'gigachat'],
    definition: byteLevel(true),
  },
  {
    ...plain,
    names: ['smollm', 'starcoder', 'refact', 'command-r', 'codeshell', 'exaone', 'minerva-7b'],
    definition: sequence(digits(true), byteLevel(true)),
  },
  {
    ...plain,
    names: ['llama-bpe', 'llama3', 'llama-v3', 'dbrx', 'smaug-bpe'],
    definition: sequence(split(words('\\p{N}{1,3}')), byteLevel(false)),
    ignoreMerges: true,
    addsBos: true,
  },
  {
    ...plain,
    names: ['qwen2', 'stablelm2', 'deepseek-r1-qwen', 'megrez'],
    definition: sequence(split(words('\\p{N}')), byteLevel(false)),
    normalizer: { type: 'NFC' },
  },
  {
    ...plain,
    names: ['tekken'],
    definition: sequence(split(tekken), byteLevel(false)),
    ignoreMerges: true,
    addsBos: true,
  },
  {
    ...plain,
    names: ['falcon'],
    definition: sequence(
      { type: 'Punctuation', behavior: 'Contiguous' },
      byteLevel(true),
      digits(false),
      split('[0-9][0-9][0-9]'),
    ),
  },
];

/** Finds a pre-tokenizer by llama.cpp's name. */
export const preTokenizerNamed = (name: string): PreTokenizer | undefined =>
  preTokenizers.find(({ names }) => names.includes(name));

/** The parts of a definition that decide how words are split, as text: equal texts split alike. */
function essence(definition: unknown): string[] {
  if (!isRecord(definition)) return [JSON.stringify(definition)];
  const { type } = definition;
  if (type === 'Sequence' && Array.isArray(definition.pretokenizers)) {
    return definition.pretokenizers.flatMap(essence);
  }
  if (type === 'ByteLevel') {
    return [`bytes, regex ${definition.use_regex !== false}, prefix ${definition.add_prefix_space === true}`];
  }
  if (type === 'Digits') return [`digits, individual ${definition.individual_digits === true}`];
  if (type === 'Split') {
    const { pattern, behavior, invert } = definition;
    return [`split ${JSON.stringify(pattern)} ${String(behavior)} ${invert === true}`];
  }
  return [JSON.stringify(definition)];
}

/** Finds the pre-tokenizer that "pre_tokenizer" and "ignore_merges" of a tokenizer.json describe. */
export function knownPreTokenizer(definition: unknown, ignoreMerges: boolean): PreTokenizer | undefined {
  const text = essence(definition).join('\n');
  return preTokenizers.find(
    candidate => essence(candidate.definition).join('\n') === text && candidate.ignoreMerges === ignoreMerges,
  );
}
