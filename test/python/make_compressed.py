"""Writes test/data/compressed: tiny models whose weights are compressed, with what they are when they are dequantised.

    python test/python/make_compressed.py [NAME ...]   (torch, transformers, safetensors, compressed-tensors; ten seconds)

Each folder has config.json, model.safetensors and golden.json: `ids`, the `logits` that transformers gives with the
dequantised weights rounded to the number type of config.json, and for each compressed weight the SHA-256 of its bytes,
`stored` in that type and in `f32`. Every layout is packed here from its specification and dequantised in f32 by the formula
of its own library; for compressed-tensors the library packs and unpacks, which must agree.
"""
import hashlib
import json
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "compressed")
BASE = dict(model_type="llama", vocab_size=16, hidden_size=64, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64, rms_norm_eps=1e-5,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
EXPERTS = dict(model_type="mixtral", num_local_experts=2, num_experts_per_tok=1, sliding_window=None)
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def spread(scales, shape):
    """Repeats scales of blocks, of which the last may be smaller."""
    rows, columns = shape
    down, across = -(-rows // scales.shape[0]), -(-columns // scales.shape[1])
    return scales.repeat_interleave(down, 0)[:rows].repeat_interleave(across, 1)[:, :columns]


def fp8(block, storage=torch.float8_e4m3fn, scale_name="weight_scale_inv", scale_shape=None, scale_dtype=torch.float32):
    def compress(weight, generator):
        rows, columns = weight.shape
        down, across = min(block[0] or rows, rows), min(block[1] or columns, columns)
        padded = torch.zeros(-(-rows // down) * down, -(-columns // across) * across)
        padded[:rows, :columns] = weight
        most = padded.reshape(padded.shape[0] // down, down, -1, across).abs().amax((1, 3))
        scales = (most / torch.finfo(storage).max).to(scale_dtype)
        if scale_dtype == torch.uint8:
            scales = (torch.log2(most / torch.finfo(storage).max).ceil() + 127).to(torch.uint8)
        wide = (scales.float() - 127).exp2() if scale_dtype == torch.uint8 else scales.float()
        each = wide.repeat_interleave(down, 0)[:rows].repeat_interleave(across, 1)[:, :columns]
        codes = (weight / each).clamp(-torch.finfo(storage).max, torch.finfo(storage).max).to(storage)
        plain = codes.float() * each
        if rows % down == 0 and columns % across == 0:
            assert torch.equal(plain, Fp8Dequantize(None)._dequantize_one(codes, scales, torch.float32))
        shape = scales.shape if scale_shape is None else scale_shape(scales)
        return {"weight": codes, scale_name: scales.reshape(shape)}, plain
    return compress


def int_range(bits):
    return -2 ** (bits - 1), 2 ** (bits - 1) - 1


def library(format, scheme, act_order=False):
    """Packed and unpacked by compressed-tensors."""
    args = QuantizationArgs(**scheme)
    whole = QuantizationScheme(targets=["Linear"], weights=args)

    def compress(weight, generator):
        rows, columns = weight.shape
        group = args.group_size if args.strategy in ("group", "tensor_group") else columns
        grouped = weight.reshape(rows, -1, group)
        state = {"weight": weight.to(torch.bfloat16)}
        if args.type == "float":
            top = 6.0 if args.num_bits == 4 else 448.0
            scales = grouped.abs().amax(-1) / top
            if format.startswith("mxfp"):
                scales = torch.exp2(torch.ceil(torch.log2(scales)))
            if format.startswith("nvfp4"):
                state["weight_global_scale"] = (448 / scales.max()).reshape(1)
                scales = (scales * state["weight_global_scale"]).to(torch.float8_e4m3fn).float()
        elif args.symmetric:
            scales = grouped.abs().amax(-1) / (2 ** (args.num_bits - 1) - 0.5)
        else:
            low, high = grouped.amin(-1).clamp(max=0), grouped.amax(-1).clamp(min=0)
            least, most = int_range(args.num_bits)
            scales = (high - low) / (most - least)
            state["weight_zero_point"] = (least - low / scales).round().clamp(least, most).to(torch.int8)
        if args.strategy == "tensor":
            scales = scales.max().reshape(1)
        state["weight_scale"] = scales.to(torch.float32 if format.startswith("mxfp") else torch.bfloat16)
        packed = BaseCompressor.get_value_from_registry(format).compress(state, whole)
        packed = {name: value.contiguous() for name, value in packed.items()}
        again = BaseCompressor.get_value_from_registry(format).decompress(dict(packed), whole)["weight"]
        # In f32: exact, because the factors are numbers of 16 bits.
        wide = dict(packed)
        if "weight_packed" in packed and packed["weight_packed"].dtype == torch.int32 or "weight_packed" not in packed:
            wide["weight_scale"] = (packed["weight_scale"].float() if packed["weight_scale"].dtype != torch.uint8
                                    else (packed["weight_scale"].float() - 127).exp2())
            plain = BaseCompressor.get_value_from_registry(format).decompress(wide, whole)["weight"].float()
        else:
            low, high = packed["weight_packed"] & 15, packed["weight_packed"] >> 4
            lut = torch.tensor(Fp8Dequantize._FP4_E2M1_LUT)
            numbers = lut[torch.stack([low, high], -1).reshape(rows, columns).long()]
            exponents = packed["weight_scale"].dtype == torch.uint8
            each = (packed["weight_scale"].float() - 127).exp2() if exponents else packed["weight_scale"].float()
            if "weight_global_scale" in packed:
                each = each / packed["weight_global_scale"].float()
            plain = numbers * spread(each, weight.shape)
        assert torch.equal(plain.to(torch.bfloat16), again.to(torch.bfloat16)), format
        if act_order:
            # Columns of a group lie apart: column j of the file is column order[j] of what was packed.
            order = torch.randperm(columns, generator=generator)
            codes = unpack(packed["weight_packed"].T, args.num_bits, columns).T[:, order]
            packed["weight_packed"] = stream(codes.T, args.num_bits).T.contiguous()
            packed["weight_g_idx"] = (order // group).int()
            plain = plain[:, order]
        return packed, plain
    return compress


def stream(codes, bits):
    """Packs unsigned codes down the rows: 32 / bits in a word, or 32 in three words."""
    rows, columns = codes.shape
    words = torch.zeros(-(-rows * bits // 32), columns, dtype=torch.int64)
    for row in range(rows):
        value = codes[row].long() << (row * bits % 32)
        words[row * bits // 32] |= value & 0xFFFFFFFF
        if row * bits % 32 + bits > 32:
            words[row * bits // 32 + 1] |= value >> 32
    return torch.where(words >= 2 ** 31, words - 2 ** 32, words).to(torch.int32)


def unpack(words, bits, rows):
    words = words.long() & 0xFFFFFFFF
    out = []
    for row in range(rows):
        word, shift = row * bits // 32, row * bits % 32
        value = words[word] >> shift
        if shift + bits > 32:
            value = value | words[word + 1] << (32 - shift)
        out.append(value & (2 ** bits - 1))
    return torch.stack(out)


def grouped_integers(weight, bits, group, symmetric):
    """Codes [out, in], scales and zeros [groups, out] for groups of columns."""
    rows, columns = weight.shape
    most = 2 ** bits - 1
    parts = weight.reshape(rows, -1, group)
    if symmetric:
        scales = parts.abs().amax(-1) * 2 / most
        zeros = torch.full(scales.shape, 2 ** (bits - 1))
    else:
        low, high = parts.amin(-1).clamp(max=0), parts.amax(-1).clamp(min=0)
        scales = (high - low) / most
        zeros = (-low / scales).round().clamp(0, most)
    scales = scales.to(torch.float16)
    codes = (parts / scales.float()[..., None] + zeros[..., None]).round().clamp(0, most).reshape(rows, columns)
    return codes.int(), scales.T.contiguous(), zeros.int().T.contiguous()


def gptq(bits, group, symmetric, version, act_order=False, stated_index=True):
    def compress(weight, generator):
        rows, columns = weight.shape
        size = columns if group == -1 else group
        codes, scales, zeros = grouped_integers(weight, bits, size, symmetric)
        index = torch.arange(columns, dtype=torch.int32) // size
        if act_order:
            order = torch.randperm(columns, generator=generator)
            codes, index = codes[:, order].contiguous(), index[order].contiguous()
        kept = zeros if version == 2 else (zeros - 1) % 2 ** bits
        parts = {"qweight": stream(codes.T, bits), "qzeros": stream(kept.T, bits).T.contiguous(), "scales": scales}
        if stated_index:
            parts["g_idx"] = index
        # gptqmodel/nn_modules/qlinear/torch.py
        opened = unpack(parts["qzeros"].T, bits, rows).T
        if version == 1:
            opened = (opened + 1) & (2 ** bits - 1)
        numbers = unpack(parts["qweight"], bits, columns)
        plain = scales.float()[index.long()] * (numbers - opened[index.long()])
        return parts, plain.T.contiguous()
    return compress


def awq(group):
    def pack(values):
        words = torch.zeros(values.shape[0], values.shape[1] // 8, dtype=torch.int64)
        for place, offset in enumerate(AWQ_ORDER):
            words |= values[:, offset::8].long() << (4 * place)
        return torch.where(words >= 2 ** 31, words - 2 ** 32, words).to(torch.int32)

    def opened(words):
        # awq/utils/packing_utils.py: unpack_awq, reverse_awq_order
        shifts = torch.arange(0, 32, 4)
        values = (words.long()[:, :, None] & 0xFFFFFFFF) >> shifts & 15
        order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
        return values[:, :, order].reshape(words.shape[0], -1)

    def compress(weight, generator):
        codes, scales, zeros = grouped_integers(weight, 4, group, False)
        parts = {"qweight": pack(codes.T), "qzeros": pack(zeros), "scales": scales}
        wide = lambda values: values.repeat_interleave(group, 0)
        plain = (opened(parts["qweight"]) - wide(opened(parts["qzeros"]))) * wide(scales.float())
        return parts, plain.T.contiguous()
    return compress


def settings(format, weights, **others):
    """As llm-compressor writes them."""
    return dict(quant_method="compressed-tensors", format=format, ignore=["lm_head"], quantization_status="compressed",
                config_groups=dict(group_0=dict(targets=["Linear"], weights=weights, input_activations=None)), **others)


PACKED = dict(num_bits=4, type="int", symmetric=True, strategy="group", group_size=32)
ASYMMETRIC = dict(num_bits=4, type="int", symmetric=False, strategy="group", group_size=32)
INT8 = dict(num_bits=8, type="int", symmetric=True, strategy="channel")
FLOAT8 = dict(num_bits=8, type="float", symmetric=True, strategy="channel")
MX4 = dict(num_bits=4, type="float", symmetric=True, strategy="group", group_size=32, scale_dtype="torch.uint8")
NV4 = dict(num_bits=4, type="float", symmetric=True, strategy="tensor_group", group_size=16, scale_dtype="torch.float8_e4m3fn")
JSON = lambda scheme: {key: value for key, value in scheme.items() if key != "scale_dtype"}
AWQ = dict(quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm", modules_to_not_convert=["lm_head", "gate"])
GPTQ = dict(quant_method="gptq", bits=4, group_size=32, desc_act=False, sym=True, checkpoint_format="gptq")

# quantization_config, how a weight is compressed, settings of config.json, the number type of the rest.
CASES = {
    "fp8-blocks": (dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[48, 40],
                        modules_to_not_convert=["lm_head"]), fp8([48, 40]), {}, torch.bfloat16),
    "fp8-tensor": (dict(quant_method="fp8", activation_scheme="static", weight_block_size=None,
                        modules_to_not_convert=["lm_head"]),
                   fp8([None, None], scale_shape=lambda scales: []), {}, torch.bfloat16),
    "mxfp8": (dict(quant_method="mxfp8", weight_block_size=[1, 32], scale_fmt="ue8m0", modules_to_not_convert=["lm_head"]),
              fp8([1, 32], scale_dtype=torch.uint8), {}, torch.bfloat16),
    "fbgemm": (dict(quant_method="fbgemm_fp8", activation_scale_ub=1200.0, modules_to_not_convert=["lm_head"]),
               fp8([1, None], scale_name="weight_scale"), {}, torch.bfloat16),
    "float8": (settings("float-quantized", JSON(FLOAT8)), library("float-quantized", FLOAT8), {}, torch.bfloat16),
    "float8-e5m2": (settings("naive-quantized", JSON(dict(FLOAT8, strategy="tensor"))),
                    fp8([None, None], torch.float8_e5m2, "weight_scale", lambda scales: [1], torch.bfloat16), {}, torch.bfloat16),
    "int8": (settings("int-quantized", INT8), library("int-quantized", INT8), {}, torch.bfloat16),
    "int8-zeros": (settings("int-quantized", dict(INT8, symmetric=False)),
                   library("int-quantized", dict(INT8, symmetric=False)), {}, torch.float16),
    "packed": (settings("pack-quantized", PACKED), library("pack-quantized", PACKED), {}, torch.bfloat16),
    "packed-zeros": (settings("pack-quantized", ASYMMETRIC), library("pack-quantized", ASYMMETRIC), {}, torch.bfloat16),
    "packed-order": (settings("pack-quantized", dict(PACKED, actorder="group")),
                     library("pack-quantized", PACKED, act_order=True), {}, torch.bfloat16),
    "packed-three": (settings("pack-quantized", dict(INT8, num_bits=3)),
                     library("pack-quantized", dict(INT8, num_bits=3)), {}, torch.bfloat16),
    "mxfp4": (settings("mxfp4-pack-quantized", JSON(MX4)), library("mxfp4-pack-quantized", MX4), {}, torch.bfloat16),
    "nvfp4": (settings("nvfp4-pack-quantized", JSON(NV4)), library("nvfp4-pack-quantized", NV4), {}, torch.bfloat16),
    "awq": (AWQ, awq(32), {}, torch.float16),
    "awq-experts": (AWQ, awq(32), EXPERTS, torch.float16),
    "gptq": (GPTQ, gptq(4, 32, True, 1), {}, torch.float16),
    "gptq-order": (dict(GPTQ, desc_act=True, sym=False), gptq(4, 32, False, 1, act_order=True), {}, torch.float16),
    "gptq-v2": (dict(GPTQ, bits=8, sym=False, checkpoint_format="gptq_v2"),
                gptq(8, 32, False, 2, stated_index=False), {}, torch.float16),
    "gptq-three": (dict(GPTQ, bits=3, group_size=-1, sym=False), gptq(3, -1, False, 1), {}, torch.bfloat16),
    "gptq-two": (dict(GPTQ, bits=2, sym=False, checkpoint_format="gptq_v2"), gptq(2, 32, False, 2), {}, torch.bfloat16),
    "gptq-experts": (dict(GPTQ, desc_act=True), gptq(4, 32, True, 1, act_order=True), EXPERTS, torch.float16),
}


@torch.no_grad()
def make(name, seed):
    quantization, compress, others, dtype = CASES[name]
    generator = torch.Generator().manual_seed(seed)
    config = AutoConfig.for_model(**dict(BASE, **others), dtype=dtype)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    tensors, golden = {}, {"stored": {}, "f32": {}}
    for key, value in list(model.state_dict().items()):
        wide = 0.5 if "embed" in key or "lm_head" in key else value.shape[-1] ** -0.5
        values = torch.randn(value.shape, generator=generator) * wide + (value.dim() == 1)
        modules = split_experts(key, values)
        rounded = []
        for stored, part in modules:
            if not stored.endswith("_proj.weight") and ".experts." not in stored:
                tensors[stored] = part.to(dtype)
                rounded.append(tensors[stored].float())
                continue
            parts, plain = compress(part, generator)
            module = stored.removesuffix(".weight")
            tensors.update({f"{module}.{part_name}": each for part_name, each in parts.items()})
            if name == "fp8-tensor":
                tensors[f"{module}.activation_scale"] = torch.tensor(0.01)
            golden["f32"][stored] = sha(plain.float())
            golden["stored"][stored] = sha(plain.to(dtype))
            rounded.append(plain.to(dtype).float())
        value.copy_(together(key, rounded))
    ids = torch.randint(3, 16, (1, 12), generator=generator)
    golden = {"ids": ids[0].tolist(), "logits": model(ids).logits[0].tolist(), **golden}
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    save_file(tensors, os.path.join(folder, "model.safetensors"), {"format": "pt"})
    described = dict(config.to_dict(), architectures=[type(model).__name__], dtype=str(dtype).removeprefix("torch."),
                     quantization_config=quantization)
    described = {key: value for key, value in described.items() if value is not None or key == "sliding_window"}
    write(os.path.join(folder, "config.json"), described)
    write(os.path.join(folder, "golden.json"), golden)
    print(name, os.path.getsize(os.path.join(folder, "model.safetensors")), file=sys.stderr)


def split_experts(key, values):
    """transformers 5 holds the experts of a Mixtral in two tensors; its files hold three matrices for each."""
    if not key.startswith("model.layers.") or ".mlp." not in key or ".experts." not in key and ".gate." not in key:
        return [(key, values)]
    at = key.split(".mlp.")[0] + ".block_sparse_moe"
    if key.endswith("mlp.gate.weight"):
        return [(f"{at}.gate.weight", values)]
    if key.endswith("gate_up_proj"):
        half = values.shape[1] // 2
        return [(f"{at}.experts.{e}.{w}.weight", rows.contiguous()) for e, each in enumerate(values)
                for w, rows in (("w1", each[:half]), ("w3", each[half:]))]
    return [(f"{at}.experts.{e}.w2.weight", each.contiguous()) for e, each in enumerate(values)]


def together(key, parts):
    if key.endswith("gate_up_proj"):
        return torch.stack([torch.cat(parts[i:i + 2]) for i in range(0, len(parts), 2)])
    return torch.stack(parts) if key.endswith("experts.down_proj") else parts[0]


def sha(tensor):
    raw = tensor.contiguous().view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)
    return hashlib.sha256(raw.numpy().tobytes()).hexdigest()


def write(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


for seed, name in enumerate(CASES):
    if len(sys.argv) < 2 or name in sys.argv[1:]:
        make(name, seed)
