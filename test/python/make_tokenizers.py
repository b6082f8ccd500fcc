"""Token ids by transformers and tokenizers for many kinds of tokenizer.json, for test/model/tokenizerParts.test.ts.
Writes test/data/tokenizers.json.

    python test/python/make_tokenizers.py
"""
import copy
import json
import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
from tokenizers import Regex, Tokenizer, decoders, models, normalizers as N, pre_tokenizers as P, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
TEXTS = [
    "the other one was there, and the others too.",
    "  two  spaces, tab\tand\nline\n\n",
    "Café cafe\u0301 Ångström ﬁ ① Ａ ½ Ⅷ",
    "emoji \U0001f469\u200d\U0001f4bb \U0001f600!! 12345 67",
    "<|im_start|>user  <|im_end|> x<|im_start|>y",
    "don't I'll WE'VE İstanbul ß",
    "こんにちは 世界",
    "a\u00a0b\u2003c\u0085d\ufeffe\u200bf",
    "",
    " ",
    "▁x ▁",
    "</s> and <s>",
    "word<extra>word <extra> wordy, <bos> <extra2>",
    "A--b__c(d)[e]",
]
CORPUS = TEXTS * 4 + ["the one that was there said no more than the others, so they would not go there " * 3]


def trained(model, trainer, pre, norm=None):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    if norm:
        tokenizer.normalizer = norm
    tokenizer.train_from_iterator(CORPUS, trainer)
    return json.loads(tokenizer.to_str())["model"]


def bpe(pre, byte=False, vocab=420, **kw):
    alphabet = P.ByteLevel.alphabet() if byte else []
    options = {k: v for k, v in kw.items() if k in ("continuing_subword_prefix", "end_of_word_suffix")}
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=alphabet, show_progress=False, special_tokens=["<unk>"] if "unk_token" in kw else [], **options
    )
    return trained(models.BPE(**kw), trainer, pre)


BYTES = P.ByteLevel(add_prefix_space=False)
MODELS = {
    "byte": bpe(BYTES, byte=True),
    "sub": bpe(P.Whitespace(), continuing_subword_prefix="##", unk_token="<unk>", vocab=200),
    "suffix": bpe(P.Whitespace(), end_of_word_suffix="</w>", unk_token="<unk>", vocab=200),
    "unk": bpe(P.Whitespace(), unk_token="<unk>", vocab=60),
    "meta": bpe(P.Metaspace(), unk_token="<unk>", vocab=200),
    "unigram": trained(
        models.Unigram(), trainers.UnigramTrainer(vocab_size=120, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False), P.Metaspace(), N.NFKC()
    ),
    "wordpiece": trained(
        models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=160, special_tokens=["[UNK]"], show_progress=False), P.BertPreTokenizer(), N.BertNormalizer()
    ),
    "wordlevel": trained(
        models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer(vocab_size=60, special_tokens=["[UNK]"], show_progress=False), P.Whitespace()
    ),
}


def fallback():
    """A SentencePiece-like BPE: bytes as tokens for what it does not know."""
    model = copy.deepcopy(MODELS["meta"])
    shift = 256
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": 1 + b for b in range(256)}}
    known = [token for token in sorted(model["vocab"], key=model["vocab"].get) if token != "<unk>" and ord(token[0]) < 0x2600]
    for token in known:
        vocab[token] = len(vocab)
    merges = [m for m in model["merges"] if all(part in vocab for part in m) and "".join(m) in vocab]
    return {**model, "vocab": vocab, "merges": merges, "byte_fallback": True, "fuse_unk": True}


MODELS["fallback"] = fallback()


def part(value):
    """The JSON of a normalizer, pre-tokenizer, processor or decoder."""
    return json.loads(value.__getstate__())


def added(content, id=None, special=False, normalized=False, single_word=False, lstrip=False, rstrip=False):
    return dict(id=id, content=content, single_word=single_word, lstrip=lstrip, rstrip=rstrip, normalized=normalized, special=special)


BL = P.ByteLevel(add_prefix_space=False, use_regex=False)
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CASES = []


def case(name, model="byte", pre=BYTES, norm=None, post=None, decoder=None, extra=(), specials=None, files=None, model_options=None, **options):
    vocab = MODELS[model]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: i for i, (piece, _) in enumerate(vocab)}
    tokens = []
    for token in [*([added(s, special=True) for s in SPECIALS] if specials is None else specials), *extra]:
        tokens.append({**token, "id": ids.setdefault(token["content"], len(ids))})
    if decoder is None:
        decoder = decoders.ByteLevel() if model == "byte" else None
    CASES.append(
        dict(
            name=name,
            model=model,
            model_options=model_options or {},
            parts=dict(
                version="1.0",
                truncation=options.get("truncation"),
                padding=options.get("padding"),
                added_tokens=tokens,
                normalizer=norm and part(norm),
                pre_tokenizer=pre and part(pre),
                post_processor=post and part(post({t["content"]: t["id"] for t in tokens})),
                decoder=decoder and part(decoder),
            ),
            files=files or {},
        )
    )


def sequence(*pre):
    return P.Sequence([*pre, BL])


def template(single):
    return lambda ids: processors.TemplateProcessing(single=single, special_tokens=[(s, ids[s]) for s in SPECIALS if s in single])


def parts():
    case("plain")
    case("prefix", pre=P.ByteLevel(add_prefix_space=True))
    case("noregex", pre=BL)
    case("llama3", pre=sequence(P.Split(Regex(WORDS), "isolated")), model_options=dict(ignore_merges=True))
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        case(f"split-{behavior}", pre=sequence(P.Split(Regex(r"\s|[,.]"), behavior)))
        case(f"split-text-{behavior}", pre=sequence(P.Split("e", behavior)))
    case("split-invert", pre=sequence(P.Split(Regex(r"\w+"), "removed", invert=True)))
    for behavior in ("isolated", "removed", "contiguous"):
        case(f"punctuation-{behavior}", pre=sequence(P.Punctuation(behavior)))
    case("digits", pre=sequence(P.Digits(individual_digits=True)))
    case("digits-together", pre=sequence(P.Digits(individual_digits=False)))
    case("whitespace", pre=sequence(P.Whitespace()))
    case("whitespace-split", pre=sequence(P.WhitespaceSplit()))
    case("bert", pre=sequence(P.BertPreTokenizer()))
    case("scripts", pre=sequence(P.UnicodeScripts()))
    case("delimiter", pre=sequence(P.CharDelimiterSplit("-")))
    case("fixed-length", pre=sequence(P.FixedLength(length=5)))
    for name, norm in dict(
        nfc=N.NFC(), nfd=N.NFD(), nfkc=N.NFKC(), nfkd=N.NFKD(), lowercase=N.Lowercase(), accents=N.Sequence([N.NFD(), N.StripAccents()]),
        strip=N.Strip(), strip_left=N.Strip(left=True, right=False), replace=N.Replace(" ", "▁"), replace_regex=N.Replace(Regex(r" {2,}"), " "),
        prepend=N.Prepend("▁"), nmt=N.Nmt(), bert=N.BertNormalizer(), both=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]),
    ).items():
        case(f"norm-{name}", norm=norm)
    case("norm-bytes", norm=N.ByteLevel(), pre=P.Split(" ", "isolated"))
    case("lstrip", specials=[added(s, special=True, lstrip=True) for s in SPECIALS])
    case("rstrip", specials=[added(s, special=True, rstrip=True) for s in SPECIALS])
    case("single-word", extra=[added("<extra>", single_word=True), added("one", single_word=True)])
    case("normalized", norm=N.Lowercase(), extra=[added("WE", normalized=True), added("There", normalized=True)])
    case("not-normalized", norm=N.Lowercase(), extra=[added("WE"), added("the")])
    case("overlap", extra=[added("ther"), added("there"), added("the o")])
    case("spaces", extra=[added("  "), added("    "), added("\n\n")])
    case("post-bos", post=template("<s> $A"))
    case("post-eos", post=template("$A </s>"))
    case("post-both", post=template("<s> $A </s>"))
    case("post-two", post=template("<s> <|im_start|> $A </s>"))
    case("post-type", post=template("<s>:0 $A:1"))
    case("post-sequence", post=lambda ids: processors.Sequence([processors.ByteLevel(trim_offsets=True), template("<s> $A")(ids)]))
    pair = lambda ids: (("</s>", ids["</s>"]), ("<s>", ids["<s>"]))
    case("post-roberta", post=lambda ids: processors.RobertaProcessing(*pair(ids)))
    case("post-bert", post=lambda ids: processors.BertProcessing(*pair(ids)))
    case("truncation", truncation=dict(direction="Right", max_length=8, strategy="LongestFirst", stride=0))
    case("padding", padding=dict(strategy=dict(Fixed=20), direction="Right", pad_to_multiple_of=None, pad_id=0, pad_type_id=0, pad_token="<s>"))
    case("subword-prefix", "sub", P.Whitespace(), decoder=decoders.WordPiece(cleanup=False))
    case("word-suffix", "suffix", P.Whitespace(), decoder=decoders.BPEDecoder())
    case("unknown", "unk", P.Whitespace())
    case("fused-unknown", "unk", P.Whitespace(), model_options=dict(fuse_unk=True))
    for name, options in dict(first=dict(prepend_scheme="first"), always=dict(prepend_scheme="always"), never=dict(prepend_scheme="never"), whole=dict(prepend_scheme="first", split=False)).items():
        case(f"metaspace-{name}", "meta", P.Metaspace(**options), decoder=decoders.Metaspace(**options))
    case("unigram", "unigram", P.Metaspace(), norm=N.NFKC(), decoder=decoders.Metaspace())
    case("wordpiece", "wordpiece", P.BertPreTokenizer(), norm=N.BertNormalizer(), decoder=decoders.WordPiece(cleanup=False))
    case("wordlevel", "wordlevel", P.Whitespace())
    llama = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    case("byte-fallback", "fallback", None, norm=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), post=template("<s> $A"), decoder=llama)


def settings(**fields):
    return {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", **fields}


def special_tokens():
    """Tokens that other files than tokenizer.json name."""
    two = [added(s, special=True) for s in SPECIALS[:2]]
    size = len(MODELS["byte"]["vocab"])
    decoder = {str(size + i): {k: v for k, v in added(s, special=True).items() if k != "id"} for i, s in enumerate(SPECIALS)}
    case("special-decoder", specials=two, files={"tokenizer_config.json": settings(added_tokens_decoder=decoder)})
    flags = copy.deepcopy(decoder)
    flags[str(size + 2)].update(lstrip=True, rstrip=True)
    case("special-decoder-flags", specials=two, files={"tokenizer_config.json": settings(added_tokens_decoder=flags)})
    case("special-decoder-again", files={"tokenizer_config.json": settings(added_tokens_decoder=flags)})
    plain = copy.deepcopy(decoder)
    plain[str(size + 2)].update(special=False, normalized=True)
    case("special-decoder-plain", norm=N.Lowercase(), specials=two, files={"tokenizer_config.json": settings(added_tokens_decoder=plain)})
    markers = {"<|im_start|>": size + 2, "<|im_end|>": size + 3}
    case("special-added-tokens", specials=two, files={"tokenizer_config.json": settings(), "added_tokens.json": markers})
    case("special-added-tokens-named", specials=two, files={"tokenizer_config.json": settings(eos_token="<|im_end|>"), "added_tokens.json": markers})
    case("special-map", specials=two, files={"tokenizer_config.json": settings(), "special_tokens_map.json": {"additional_special_tokens": SPECIALS[2:], "bos_token": "<bos>", "eos_token": dict(content="</s>", lstrip=False, rstrip=False, normalized=False, single_word=False)}})
    case("special-map-beside-decoder", specials=two, files={"tokenizer_config.json": settings(added_tokens_decoder=decoder), "special_tokens_map.json": {"bos_token": "<bos>", "additional_special_tokens": ["<extra>"]}})
    case("special-extra", specials=two, files={"tokenizer_config.json": settings(extra_special_tokens=SPECIALS[2:])})
    case("special-extra-named", specials=two, files={"tokenizer_config.json": settings(extra_special_tokens={"image_token": "<extra>", "start_token": "<|im_start|>"})})
    case("special-additional", specials=two, files={"tokenizer_config.json": settings(additional_special_tokens=SPECIALS[2:])})
    case("special-named", specials=two, files={"tokenizer_config.json": settings(pad_token="<|im_end|>", unk_token="<extra>", image_token="<|im_start|>")})
    case("special-object", specials=two, files={"tokenizer_config.json": settings(pad_token={"__type": "AddedToken", "content": "<extra>", "lstrip": True, "rstrip": False, "normalized": False, "single_word": False})})
    case("special-in-vocabulary", files={"tokenizer_config.json": settings(pad_token="the")})
    case("bos-unset", post=template("<s> $A"), files={"tokenizer_config.json": settings(add_bos_token=False, add_eos_token=True)})
    case("bos-set", files={"tokenizer_config.json": settings(add_bos_token=True)})


def expected(entry, folder):
    definition = {**entry["parts"], "model": {**MODELS[entry["model"]], **entry["model_options"]}}
    files = {"tokenizer.json": definition, "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}, **entry["files"]}
    for name, value in files.items():
        with open(os.path.join(folder, name), "w") as file:
            json.dump(value, file)
    fast = PreTrainedTokenizerFast.from_pretrained(folder)
    encode = lambda special: [fast(text, add_special_tokens=special)["input_ids"] for text in TEXTS]
    ids, special = encode(False), encode(True)
    if not entry["files"]:
        raw = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        raw.no_truncation()
        raw.no_padding()
        assert [raw.encode(text, add_special_tokens=True).ids for text in TEXTS] == special, entry["name"]
    decode = lambda skip: [fast.backend_tokenizer.decode(list_, skip_special_tokens=skip) for list_ in special]
    decoded, skipped = decode(False), decode(True)
    # What repeats is left out.
    return dict(ids=ids, **(dict(special=special) if special != ids else {}), decoded=decoded, **(dict(skipped=skipped) if skipped != decoded else {}))


def main():
    parts()
    special_tokens()
    for entry in CASES:
        with tempfile.TemporaryDirectory() as folder:
            entry["expected"] = expected(entry, folder)
    path = os.path.join(HERE, "..", "data", "tokenizers.json")
    with open(path, "w") as file:
        json.dump(dict(texts=TEXTS, models=MODELS, cases=CASES), file, ensure_ascii=True, separators=(",", ":"))
    print(len(CASES), "cases,", os.path.getsize(path), "bytes")


main()
