"""Makes test/data/gguf: what the Python package gguf (0.19.0) reads from blocks of every format, and small GGUF files.

    python gguf_files.py          (needs gguf, numpy)

blocks.json: per format {"bytes": base64, "values": base64 of little-endian f32} of two rows; Q4_0 to Q8_0 quantised by the
package from "source", the k-quants random bytes, which it can only read.

tiny.gguf: a llama of 2 layers whose tensors are of every type that the package can write, named and laid out as llama.cpp's
converter does; tiny.json: by transformers' names the values of layer 0, with the rows of q
and k in transformers' order.
"""
import base64
import json
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFWriter, TokenType, dequantize, quantize

folder = Path(__file__).parents[1] / "data" / "gguf"
random = np.random.default_rng(1)
text = lambda array: base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()

blocks = {}
for name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"):
    kind = GGMLQuantizationType[name]
    source = (random.standard_normal((2, 64)) * 0.05).astype(np.float32)
    data = quantize(source, kind)
    blocks[name] = {"source": text(source), "bytes": text(data), "values": text(dequantize(data, kind))}
for name, scales in (("Q4_K", (0, 2)), ("Q5_K", (0, 2)), ("Q6_K", (208,))):
    kind = GGMLQuantizationType[name]
    _, size = GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (2, size), dtype=np.uint8)
    for at in scales:
        data[:, at : at + 2] = np.array([[1.3e-5], [0.021]], dtype=np.float16).view(np.uint8)
    blocks[name] = {"bytes": text(data), "values": text(dequantize(data, kind))}
(folder / "blocks.json").write_text(json.dumps(blocks, indent=1) + "\n")

LAYERS, HIDDEN, INNER, HEADS, KV_HEADS, ROWS = 2, 32, 64, 4, 2, 264
TYPES = {
    "attn_q": ("self_attn.q_proj", "Q4_0", (HIDDEN, HIDDEN)),
    "attn_k": ("self_attn.k_proj", "Q4_1", (KV_HEADS * HIDDEN // HEADS, HIDDEN)),
    "attn_v": ("self_attn.v_proj", "Q5_0", (KV_HEADS * HIDDEN // HEADS, HIDDEN)),
    "attn_output": ("self_attn.o_proj", "Q5_1", (HIDDEN, HIDDEN)),
    "ffn_gate": ("mlp.gate_proj", "Q8_0", (INNER, HIDDEN)),
    "ffn_up": ("mlp.up_proj", "F16", (INNER, HIDDEN)),
    "ffn_down": ("mlp.down_proj", "BF16", (HIDDEN, INNER)),
}

# GPT-2's printable stand-ins of bytes, one merge, and a special token.
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
others = iter(range(256, 512))
tokens = [chr(byte if byte in printable else next(others)) for byte in range(256)] + ["th", "<end>"]
kinds = [TokenType.NORMAL] * 257 + [TokenType.CONTROL]
while len(tokens) < ROWS:
    tokens.append(f"[PAD{len(tokens)}]")
    kinds.append(TokenType.UNUSED)

writer = GGUFWriter(folder / "tiny.gguf", "llama")
writer.add_name("Tiny")
writer.add_block_count(LAYERS)
writer.add_context_length(128)
writer.add_embedding_length(HIDDEN)
writer.add_feed_forward_length(INNER)
writer.add_head_count(HEADS)
writer.add_head_count_kv([KV_HEADS] * LAYERS)
writer.add_layer_norm_rms_eps(1e-5)
writer.add_rope_freq_base(50000.0)
writer.add_tokenizer_model("gpt2")
writer.add_tokenizer_pre("gpt-2")
writer.add_token_list(tokens)
writer.add_token_types(kinds)
writer.add_token_merges(["t h"])
writer.add_eos_token_id(257)
writer.add_chat_template("{% for m in messages %}{{ m['content'] }}<end>{% endfor %}")

values = {}


def add(name, known_as, shape, kind_name, heads=None):
    kind = GGMLQuantizationType[kind_name]
    scale = 0.1 if len(shape) == 2 else 1.0
    array = (random.standard_normal(shape) * scale + (len(shape) == 1)).astype(np.float32)
    data = quantize(array, kind)
    writer.add_tensor(name, data, raw_dtype=kind)
    found = dequantize(data, kind)
    if heads:
        found = found.reshape(heads, shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(shape)
    if ".0." in known_as:
        values[known_as] = {"shape": list(shape), "values": text(found.astype(np.float32))}


add("token_embd.weight", "model.embed_tokens.weight", (ROWS, HIDDEN), "Q8_0")
for layer in range(LAYERS):
    for ours, theirs in (("attn_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm")):
        add(f"blk.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight", (HIDDEN,), "F32")
    for ours, (theirs, kind, shape) in TYPES.items():
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(ours)
        add(f"blk.{layer}.{ours}.weight", f"model.layers.{layer}.{theirs}.weight", shape, kind, heads)
add("output_norm.weight", "model.norm.weight", (HIDDEN,), "F32")
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
(folder / "tiny.json").write_text(json.dumps({"tensors": values}, indent=1) + "\n")
