import { RmError } from '../../engine/index.js';
import { statedTokenIds } from './config.js';
import type { GgufFile } from './file.js';
import { GgufMetadata } from './metadata.js';
import { preTokenizerNamed, preTokenizers } from './preTokenizers.js';

/** tokenizer.ggml.token_type. Source: llama.h (enum llama_token_type). */
export const tokenTypes = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A file's vocabulary; lists have one element per token. */
interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly scores: readonly number[] | undefined;
  readonly merges: readonly string[] | undefined;
}

function vocabularyOf(metadata: GgufMetadata, rows: number | undefined): Vocabulary {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const tokens = metadata.list(key('tokens'), rows, 'string') as string[] | undefined;
  if (!tokens) throw metadata.invalid(key('tokens'), 'is missing');
  const numbers = (name: string) => metadata.list(key(name), tokens.length, 'number') as number[] | undefined;
  return {
    tokens,
    types: numbers('token_type') ?? tokens.map(() => tokenTypes.normal),
    scores: numbers('scores'),
    merges: metadata.list(key('merges'), undefined, 'string') as string[] | undefined,
  };
}

const addedTokens = ({ tokens, types }: Vocabulary) =>
  tokens.flatMap((content, id) => {
    const special = types[id] === tokenTypes.control || types[id] === tokenTypes.unknown;
    if (!special && types[id] !== tokenTypes.userDefined) return [];
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }];
  });

/** A template that adds BOS before and EOS after a text. */
function template(bos: string | undefined, eos: string | undefined, idOf: ReadonlyMap<string, number>) {
  const special = [bos, eos].filter(token => token !== undefined);
  if (special.length === 0) return null;
  const token = (content: string, type: number) => ({ SpecialToken: { id: content, type_id: type } });
  const text = (id: 'A' | 'B', type: number) => [
    ...(bos === undefined ? [] : [token(bos, type)]),
    { Sequence: { id, type_id: type } },
    ...(eos === undefined ? [] : [token(eos, type)]),
  ];
  return {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(
      special.map(content => [content, { id: content, ids: [idOf.get(content)], tokens: [content] }]),
    ),
  };
}

/** Splits a merge "a b" at the first space after the first character, because tokens may begin with a space. */
const mergePair = (merge: string): [string, string] => {
  const at = merge.indexOf(' ', 1);
  return [merge.slice(0, at), merge.slice(at + 1)];
};

const bpe = (
  vocabulary: Vocabulary,
  merges: readonly (readonly [string, string])[],
  more: Record<string, unknown>,
) => ({
  type: 'BPE',
  dropout: null,
  unk_token: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
  fuse_unk: false,
  byte_fallback: false,
  ignore_merges: false,
  ...more,
  vocab: Object.fromEntries(vocabulary.tokens.map((token, id) => [token, id])),
  merges,
});

function byteLevelParts(metadata: GgufMetadata, vocabulary: Vocabulary) {
  const name = metadata.text('tokenizer.ggml.pre') ?? 'default';
  const pre = preTokenizerNamed(name);
  if (!pre) {
    throw new RmError(
      'CONFIG_INVALID',
      `${metadata.path}: metadata "tokenizer.ggml.pre" is the unknown pre-tokenizer ${JSON.stringify(name)}; known are ${preTokenizers.flatMap(({ names }) => names).join(', ')}`,
      "Put the model's tokenizer.json into a folder with its weights (rm-engine convert needs it too), or choose another model.",
    );
  }
  if (!vocabulary.merges) throw metadata.invalid('tokenizer.ggml.merges', 'is missing');
  const wrong = vocabulary.merges.find(merge => merge.indexOf(' ', 1) < 0);
  if (wrong !== undefined) throw metadata.invalid('tokenizer.ggml.merges', `holds ${JSON.stringify(wrong)}`);
  return {
    addsBos: pre.addsBos,
    normalizer: pre.normalizer,
    pre_tokenizer: pre.definition,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: bpe(vocabulary, vocabulary.merges.map(mergePair), { ignore_merges: pre.ignoreMerges }),
  };
}

/**
 * Derives merges from scores: every way to join two pieces into a third, ordered by the third's score, best first.
 * Source: generate_merges in transformers/convert_slow_tokenizer.py.
 */
function mergesOfScores({ tokens }: Vocabulary, scores: readonly number[]): [string, string][] {
  const idOf = new Map(tokens.map((token, id) => [token, id]));
  const merges: { pair: [string, string]; score: number; ids: [number, number] }[] = [];
  for (const [id, token] of tokens.entries()) {
    const letters = [...token];
    let left = '';
    for (let i = 1; i < letters.length; i++) {
      left += letters[i - 1]!;
      const right = token.slice(left.length);
      const ids: [number | undefined, number | undefined] = [idOf.get(left), idOf.get(right)];
      if (ids[0] === undefined || ids[1] === undefined) continue;
      merges.push({ pair: [left, right], score: scores[id]!, ids: ids as [number, number] });
    }
  }
  // Sorting is stable: pieces with equal scores stay in the order of their parts' ids.
  merges.sort((a, b) => a.ids[0] - b.ids[0] || a.ids[1] - b.ids[1]);
  merges.sort((a, b) => b.score - a.score);
  return merges.map(({ pair }) => pair);
}

const SPACE = '▁';

function sentencePieceParts(metadata: GgufMetadata, vocabulary: Vocabulary) {
  if (!vocabulary.scores) throw metadata.invalid('tokenizer.ggml.scores', 'is missing');
  const prefixed = metadata.flag('tokenizer.ggml.add_space_prefix') ?? true;
  const unknown = vocabulary.types.indexOf(tokenTypes.unknown);
  const replace = { type: 'Replace', pattern: { String: ' ' }, content: SPACE };
  return {
    addsBos: true,
    normalizer: prefixed
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: SPACE }, replace] }
      : replace,
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: bpe(vocabulary, mergesOfScores(vocabulary, vocabulary.scores), {
      unk_token: unknown < 0 ? null : vocabulary.tokens[unknown],
      fuse_unk: true,
      byte_fallback: true,
    }),
  };
}

/** Contents of tokenizer.json, tokenizer_config.json and generation_config.json. */
interface TokenizerFiles {
  readonly definition: Record<string, unknown>;
  readonly settings: Record<string, unknown>;
  readonly generation: Record<string, unknown>;
}

/**
 * Builds the tokenizer files from a file's metadata.
 *
 * @throws RmError CONFIG_INVALID naming the key, also for unknown tokenizers and pre-tokenizers.
 */
export function tokenizerOfGguf(file: GgufFile): TokenizerFiles {
  const metadata = new GgufMetadata(file.metadata, file.path);
  const rows = file.tensors.find(({ name }) => name === 'token_embd.weight')?.shape[0];
  const kind = metadata.text('tokenizer.ggml.model');
  if (kind !== 'gpt2' && kind !== 'llama') {
    throw new RmError(
      'CONFIG_INVALID',
      `${file.path}: metadata "tokenizer.ggml.model" is ${JSON.stringify(kind)}; supported are gpt2 (byte-level BPE) and llama (SentencePiece)`,
      'Choose a model with one of these tokenizers, or give its Hugging Face folder.',
    );
  }
  const vocabulary = vocabularyOf(metadata, rows);
  const { tokens } = vocabulary;
  const { addsBos, ...parts } = (kind === 'gpt2' ? byteLevelParts : sentencePieceParts)(metadata, vocabulary);
  const ids = statedTokenIds(metadata);
  for (const [name, id] of Object.entries(ids)) {
    if (id >= tokens.length)
      throw metadata.invalid(`tokenizer.ggml.${name}`, `is ${id} of ${tokens.length} tokens`);
  }
  const text = (name: string) => (ids[name] === undefined ? undefined : tokens[ids[name]]);
  const bos = (metadata.flag('tokenizer.ggml.add_bos_token') ?? addsBos) ? text('bos_token_id') : undefined;
  const eos = metadata.flag('tokenizer.ggml.add_eos_token') ? text('eos_token_id') : undefined;
  const named = Object.fromEntries(
    Object.keys(ids).map(name => [name.replace('_id', ''), text(name)] as const),
  );
  const ends = [
    ids.eos_token_id,
    metadata.count('tokenizer.ggml.eot_token_id', 0),
    metadata.count('tokenizer.ggml.eom_token_id', 0),
  ].filter((id, i, all): id is number => id !== undefined && id < tokens.length && all.indexOf(id) === i);
  const { eos_token_id: _, unk_token_id: __, ...others } = ids;
  return {
    definition: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: addedTokens(vocabulary),
      normalizer: parts.normalizer,
      pre_tokenizer: parts.pre_tokenizer,
      post_processor: template(bos, eos, new Map(tokens.map((token, id) => [token, id]))),
      decoder: parts.decoder,
      model: parts.model,
    },
    settings: {
      tokenizer_class: 'PreTrainedTokenizerFast',
      ...named,
      clean_up_tokenization_spaces: false,
      model_max_length: metadata.count(`${metadata.text('general.architecture')}.context_length`),
    },
    generation: { ...others, ...(ends.length > 0 && { eos_token_id: ends.length === 1 ? ends[0] : ends }) },
  };
}

/** A file's chat template. @throws RmError CONFIG_INVALID. */
export const chatTemplateOfGguf = (file: GgufFile): string | undefined =>
  new GgufMetadata(file.metadata, file.path).text('tokenizer.chat_template');
