"""Writes test/data/families: tiny random models of every family with what transformers makes of them.

    python test/python/make_families.py [NAME ...]        (torch, transformers, safetensors; a minute)

Each folder holds a model as transformers writes it, weights in bf16, and golden.safetensors, all in f32 from the widened
weights: `ids` and `logits` of a sequence, `kept` (layers) and `kept_logits` of the model with only these layers,
`kept_image_logits` with a picture where the model reads any (image_inputs.py), and `greedy`, eight tokens generated with a KV
cache after the first ten of `ids`. Weights are random but uneven, so that
every part shows in the logits. Settings are chosen to differ from every default: odd head widths, windows shorter than
the sequence, sequences longer than the original context.
"""
import copy
import json
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
import torch
from safetensors.torch import load_file, save_file
from image_inputs import image_inputs
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "families")
TOKENS = 24
SHORT = dict(vocab_size=64, hidden_size=24, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=64,
             pad_token_id=0, bos_token_id=1, eos_token_id=2)
BASE = dict(**SHORT, intermediate_size=20, num_key_value_heads=2)
SLIDING = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]

YARN_GROWING = dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=8, mscale=1.0,
                    mscale_all_dim=1.0, llama_4_scaling_beta=0.3)

MODELS = {
    "llama": dict(model_type="llama", attention_bias=True, mlp_bias=True, head_dim=10, tie_word_embeddings=True,
                  rope_parameters=dict(rope_type="llama3", rope_theta=5e3, factor=4.0, low_freq_factor=1.0,
                                       high_freq_factor=4.0, original_max_position_embeddings=16)),
    "llama-yarn": dict(model_type="llama", hidden_act="gelu",
                       rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0,
                                            original_max_position_embeddings=16)),
    "smollm3": dict(model_type="smollm3", no_rope_layer_interval=2, use_sliding_window=True, sliding_window=5),
    "mistral": dict(model_type="mistral", sliding_window=6, head_dim=8),
    "mixtral": dict(model_type="mixtral", sliding_window=9, num_local_experts=4, num_experts_per_tok=2),
    "qwen2": dict(model_type="qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=2,
                  tie_word_embeddings=True),
    "qwen3": dict(model_type="qwen3", head_dim=6, layer_types=SLIDING, use_sliding_window=True, sliding_window=4,
                  attention_bias=True),
    "phi3": dict(model_type="phi3", original_max_position_embeddings=16, sliding_window=11, num_attention_heads=2,
                 num_key_value_heads=1,
                 rope_parameters=dict(rope_type="longrope", rope_theta=1e4, partial_rotary_factor=0.5,
                                      short_factor=[1.0, 1.2, 1.5], long_factor=[1.5, 2.5, 4.0])),
    "gemma2": dict(model_type="gemma2", head_dim=12, query_pre_attn_scalar=20, sliding_window=5,
                   attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3": dict(model_type="gemma3_text", head_dim=8, query_pre_attn_scalar=10, sliding_window=6,
                   sliding_window_pattern=3,
                   rope_parameters=dict(sliding_attention=dict(rope_type="default", rope_theta=1e3),
                                        full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1e5))),
    "gemma3-multimodal": dict(model_type="gemma3"),
    "olmo2": dict(model_type="olmo2", attention_bias=True),
    "granite": dict(model_type="granite", embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.6,
                    logits_scaling=2.5, mlp_bias=True, tie_word_embeddings=True),
    "falcon": dict(model_type="falcon", bias=True),
    "falcon-grouped": dict(model_type="falcon", new_decoder_architecture=True, num_kv_heads=2, ffn_hidden_size=28),
    "falcon-sequential": dict(model_type="falcon", parallel_attn=False, multi_query=False, bias=True,
                              tie_word_embeddings=False, ffn_hidden_size=28),
    "neox": dict(model_type="gpt_neox", intermediate_size=28,
                 rope_parameters=dict(rope_type="default", rope_theta=1e3, partial_rotary_factor=0.5)),
    "neox-sequential": dict(model_type="gpt_neox", intermediate_size=28, use_parallel_residual=False,
                            attention_bias=False, hidden_act="gelu_new", num_attention_heads=3,
                            rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4,
                                                 partial_rotary_factor=1.0)),
}
MODELS.update({
    "ministral3": dict(model_type="ministral3", head_dim=8, sliding_window=9, rope_parameters=YARN_GROWING),
    "mistral3": dict(model_type="mistral3"),
    "mistral3-growing": dict(model_type="mistral3"),
    "qwen2_5_vl": dict(model_type="qwen2_5_vl"),
    "qwen3_vl": dict(model_type="qwen3_vl"),
    "smolvlm": dict(model_type="smolvlm"),
    "idefics3": dict(model_type="idefics3"),
    "olmo3": dict(model_type="olmo3", sliding_window=5, attention_bias=True, rope_parameters=dict(
        full_attention=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=16),
        sliding_attention=dict(rope_type="default", rope_theta=1e4))),
    "exaone4": dict(model_type="exaone4", sliding_window=5, sliding_window_pattern=3, layer_types=SLIDING),
    "exaone4-whole": dict(model_type="exaone4", sliding_window=None, layer_types=["full_attention"] * 4,
                          rope_parameters=dict(rope_type="llama3", rope_theta=5e3, factor=4.0, low_freq_factor=1.0,
                                               high_freq_factor=4.0, original_max_position_embeddings=16)),
    "seed_oss": dict(model_type="seed_oss", head_dim=10, attention_out_bias=True),
    "granitemoehybrid": dict(model_type="granitemoehybrid", num_local_experts=0, shared_intermediate_size=20,
                             intermediate_size=28, layer_types=["attention"] * 4, position_embedding_type="rope",
                             mamba_n_heads=4, embedding_multiplier=3.0, attention_multiplier=0.2,
                             residual_multiplier=0.6, logits_scaling=2.5),
    "starcoder2": dict(model_type="starcoder2", sliding_window=7),
    "stablelm": dict(model_type="stablelm", use_qkv_bias=True, hidden_size=32, num_key_value_heads=2),
    "stablelm-parallel": dict(model_type="stablelm", use_parallel_residual=True, hidden_size=32),
    "arcee": dict(model_type="arcee", attention_bias=True, mlp_bias=True,
                  rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, original_max_position_embeddings=16)),
    "helium": dict(model_type="helium", head_dim=6, attention_bias=True, mlp_bias=True),
    "ernie4_5": dict(model_type="ernie4_5", head_dim=10, use_bias=True, tie_word_embeddings=False),
    "glm": dict(model_type="glm", hidden_size=32, head_dim=8, rms_norm_eps=1e-5),
    "glm4": dict(model_type="glm4", head_dim=8, rms_norm_eps=1e-5, attention_bias=False),
    "cohere": dict(model_type="cohere", logit_scale=0.5, attention_bias=True),
    "cohere2": dict(model_type="cohere2", logit_scale=0.5, sliding_window=5, layer_types=SLIDING),
    "hunyuan": dict(model_type="hunyuan_v1_dense", head_dim=6, attention_bias=True,
                    rope_parameters=dict(rope_type="dynamic", rope_theta=1e4, alpha=50.0, factor=1.0, beta_fast=32, beta_slow=1,
                                         mscale=1.0, mscale_all_dim=0.0)),
    "qwen3_moe": dict(model_type="qwen3_moe", head_dim=10, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=12,
                      attention_bias=True, mlp_only_layers=[1], norm_topk_prob=False),
    "qwen3_moe-normed": dict(model_type="qwen3_moe", num_experts=9, num_experts_per_tok=2, moe_intermediate_size=12,
                             use_sliding_window=True, sliding_window=7, norm_topk_prob=True, tie_word_embeddings=True),
    "qwen2_moe": dict(model_type="qwen2_moe", num_experts=5, num_experts_per_tok=2, moe_intermediate_size=12,
                      shared_expert_intermediate_size=16, use_sliding_window=True, sliding_window=5, max_window_layers=3),
    "gpt_oss": dict(model_type="gpt_oss", head_dim=8, num_local_experts=5, num_experts_per_tok=2, sliding_window=5, swiglu_limit=0.5,
                    layer_types=SLIDING, rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0, truncate=False,
                                                              original_max_position_embeddings=8)),
    "gpt_oss-mxfp4": dict(model_type="gpt_oss", head_dim=8, num_local_experts=3, num_experts_per_tok=2, hidden_size=32,
                          intermediate_size=64, layer_types=SLIDING[::-1], sliding_window=9, tie_word_embeddings=True,
                          rope_parameters=dict(rope_type="default", rope_theta=1e4)),
    "apertus": dict(model_type="apertus", rope_parameters=dict(rope_type="default", rope_theta=1e4), num_hidden_layers=4),
    "phi": dict(model_type="phi", rope_parameters=dict(rope_type="default", rope_theta=1e3, partial_rotary_factor=0.34)),
})
DELTA = dict(head_dim=6, linear_conv_kernel_dim=3, linear_key_head_dim=4, linear_value_head_dim=5, linear_num_key_heads=2,
             linear_num_value_heads=4)
MIXED = ["linear_attention", "full_attention", "linear_attention", "linear_attention"]
MODELS.update({
    "lfm2": dict(model_type="lfm2", conv_L_cache=4, block_multiple_of=8, block_ffn_dim_multiplier=1.5, intermediate_size=28,
                 layer_types=["conv", "full_attention", "conv", "conv"]),
    "lfm2-bias": dict(model_type="lfm2", conv_bias=True, block_auto_adjust_ff_dim=False, tie_word_embeddings=False,
                      layer_types=["full_attention", "conv", "conv", "conv"]),
    "qwen3_5_text": dict(model_type="qwen3_5_text", attention_bias=True, layer_types=MIXED, **DELTA,
                         rope_parameters=dict(rope_type="default", rope_theta=1e3, partial_rotary_factor=0.34)),
    "qwen3_5": dict(model_type="qwen3_5"),
})
VISION = dict(model_type="siglip_vision_model", hidden_size=8, intermediate_size=8, num_hidden_layers=4,
              num_attention_heads=2, image_size=8, patch_size=4)


EYES = {
    "gemma3": VISION,
    "mistral3": dict(model_type="pixtral", hidden_size=8, intermediate_size=8, num_hidden_layers=4,
                     num_attention_heads=2, image_size=16, patch_size=4, head_dim=4),
    "qwen2_5_vl": dict(depth=4, hidden_size=8, intermediate_size=8, num_heads=2, patch_size=4, window_size=16,
                       out_hidden_size=24, fullatt_block_indexes=[0, 1, 2, 3]),
    "qwen3_vl": dict(depth=4, hidden_size=8, intermediate_size=8, num_heads=2, patch_size=4, out_hidden_size=24,
                     num_position_embeddings=16, deepstack_visual_indexes=[1]),
    "qwen3_5": dict(depth=4, hidden_size=8, intermediate_size=8, num_heads=2, patch_size=4, out_hidden_size=24,
                    num_position_embeddings=16),
    "smolvlm": dict(hidden_size=8, intermediate_size=8, num_hidden_layers=4, num_attention_heads=2, image_size=8, patch_size=4),
}
EYES["idefics3"] = EYES["smolvlm"]
IMAGES = dict(image_token_id=60, video_token_id=61, vision_start_token_id=62, vision_end_token_id=63)
MROPE = dict(rope_type="default", rope_theta=1e3, mrope_section=[1, 1, 1])

# The language models of those that read images, and the settings of the whole.
INSIDE = {
    "gemma3-multimodal": (dict(model_type="gemma3_text", head_dim=8, sliding_window=6, layer_types=SLIDING),
                          dict(mm_tokens_per_image=4, image_token_index=60, boi_token_index=61, eoi_token_index=62)),
    "mistral3": (dict(model_type="mistral", sliding_window=None, head_dim=8),
                 dict(image_token_index=60, spatial_merge_size=2, tie_word_embeddings=False)),
    "mistral3-growing": (dict(model_type="ministral3", head_dim=8, rope_parameters=YARN_GROWING),
                         dict(image_token_index=60, spatial_merge_size=2)),
    "qwen2_5_vl": (dict(model_type="qwen2_5_vl_text", rope_parameters=MROPE), IMAGES),
    "qwen3_vl": (dict(model_type="qwen3_vl_text", head_dim=6, attention_bias=True,
                      rope_parameters=dict(MROPE, mrope_interleaved=True)), dict(IMAGES, tie_word_embeddings=True)),
    "qwen3_5": (dict(model_type="qwen3_5_text", layer_types=MIXED, **dict(DELTA, linear_key_head_dim=6),
                     rope_parameters=dict(MROPE, mrope_interleaved=True, partial_rotary_factor=1.0)),
                dict(IMAGES, tie_word_embeddings=True)),
    "smolvlm": (dict(model_type="llama", rms_norm_eps=1e-5), dict(image_token_id=60, scale_factor=2)),
    "idefics3": (dict(model_type="llama", attention_bias=True), dict(image_token_id=60, scale_factor=2, tie_word_embeddings=True)),
}


def config_of(name):
    settings = MODELS[name]
    kind = settings["model_type"]
    if name in INSIDE:
        text, whole = INSIDE[name]
        return AutoConfig.for_model(kind, text_config=dict(BASE, **text), vision_config=EYES[kind], **whole)
    base = SHORT if kind in ("falcon", "gpt_neox") else BASE
    return AutoConfig.for_model(**dict(base, **settings))


def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("A_log"):
            # Memories that last.
            values = noise - 2
        elif name.endswith(("bias", "sinks")):
            values = 0.3 * noise
        elif parameter.dim() == 1:
            values = parameter.detach() + 0.3 * noise
        elif "embed" in name or "lm_head" in name:
            values = 0.5 * noise
        else:
            values = noise / parameter.shape[-1] ** 0.5
        parameter.data = values.to(torch.bfloat16).float()


def cut(model, kept):
    """Leaves only the layers `kept`; independent of how a config.json says so."""
    whole = getattr(model, "model", None)
    text = getattr(whole, "language_model", None) or getattr(whole, "text_model", None)
    inner = text or whole or getattr(model, "gpt_neox", None) or model.transformer
    name = "h" if hasattr(inner, "h") else "layers"
    layers = getattr(inner, name)
    setattr(inner, name, torch.nn.ModuleList([layers[k] for k in kept]))
    if getattr(inner.config, "layer_types", None):
        inner.config.layer_types = [inner.config.layer_types[k] for k in kept]
    inner.config.num_hidden_layers = len(kept)


def pack_experts(model, folder, generator):
    """Replaces the matrices of experts in a written folder, and in the model, by MXFP4 as gpt-oss stores it."""
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for name, parameter in model.named_parameters():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        experts, inputs, outputs = parameter.shape
        blocks = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8, generator=generator)
        scales = torch.randint(121, 126, (experts, outputs, inputs // 32), dtype=torch.uint8, generator=generator)
        values = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
        assert values.shape == parameter.shape
        parameter.data = values.float()
        del tensors[name]
        tensors[name + "_blocks"], tensors[name + "_scales"] = blocks, scales
    save_file(tensors, path, metadata=dict(format="pt"))
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=["lm_head", "model.embed_tokens"])
    json.dump(config, open(path, "w"), indent=2)


def add_further_prediction(folder, generator):
    """Adds what published files have beside the model to predict further tokens; transformers does not load it."""
    path = os.path.join(folder, "model.safetensors")
    tensors = load_file(path)
    for part in ("fc", "layers.0.mlp.gate_proj"):
        tensors[f"mtp.{part}.weight"] = torch.randn((8, 24), generator=generator).bfloat16()
    save_file(tensors, path, {"format": "pt"})


@torch.no_grad()
def make(name, seed):
    generator = torch.Generator().manual_seed(seed)
    config = config_of(name)
    auto = AutoModelForImageTextToText if name in INSIDE else AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager").eval()
    randomise(model, generator)
    folder = os.path.join(OUT, name)
    os.makedirs(folder, exist_ok=True)
    # A copy: rotation frequencies are rounded with the weights.
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    if name.endswith("-mxfp4"):
        pack_experts(model, folder, generator)
    ids = torch.randint(3, 60, (1, TOKENS), generator=generator)
    golden = {"ids": ids[0].int(), "logits": model(ids).logits[0].clone()}
    model.generation_config.eos_token_id = None
    out = model.generate(ids[:, :10], attention_mask=torch.ones(1, 10, dtype=torch.long), max_new_tokens=8, do_sample=False)
    golden["greedy"] = out[0, 10:].int()
    kept = [0, 1, 3]
    cut(model, kept)
    golden["kept"] = torch.tensor(kept, dtype=torch.int32)
    golden["kept_logits"] = model(ids, use_cache=False).logits[0].clone()
    if name in INSIDE:
        golden["kept_image_logits"] = model(**image_inputs(config.model_type), use_cache=False).logits[0].clone()
    if name == "qwen3_5":
        add_further_prediction(folder, generator)
    save_file(golden, os.path.join(folder, "golden.safetensors"))
    path = os.path.join(folder, "generation_config.json")
    if os.path.exists(path):
        os.remove(path)
    print(f"{name}: logits up to {golden['logits'].abs().max():.2f}, greedy {golden['greedy'].tolist()}", file=sys.stderr)


for seed, name in enumerate(MODELS):
    if len(sys.argv) < 2 or name in sys.argv[1:]:
        make(name, seed)
