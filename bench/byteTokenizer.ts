const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** A tokenizer.json that makes each byte of a text a token: 256 bytes, one special token, no merges. */
export function byteTokenizer(): object {
  // Byte-level BPE writes bytes as printable characters (GPT-2's bytes_to_unicode).
  const printable = [...range(33, 126), ...range(161, 172), ...range(174, 255)];
  let next = 256;
  const symbols = range(0, 255).map(byte => String.fromCodePoint(printable.includes(byte) ? byte : next++));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 256,
        content: '<end>',
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(symbols.map((symbol, id) => [symbol, id])),
      merges: [],
    },
  };
}
