"""Writes test/data/checkpoints: tiny models whose files say two things, with what transformers makes of them.

    python test/python/make_checkpoints.py        (torch, transformers, safetensors; a minute)

Each folder holds such a model and golden.safetensors, all in f32: `ids` and `logits` of a sequence, `kept` (layers) and
`kept_logits` of the model with only these layers. Logits are those of AutoModelForCausalLM.from_pretrained on the folder.
"""
import json
import os
import shutil

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, Gemma3ForConditionalGeneration

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "data", "checkpoints")
SHORT = dict(vocab_size=40, hidden_size=16, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=64,
             pad_token_id=0, bos_token_id=1, eos_token_id=2)
BASE = dict(**SHORT, intermediate_size=12, num_key_value_heads=2)
VISION = dict(model_type="siglip_vision_model", hidden_size=8, intermediate_size=8, num_hidden_layers=1,
              num_attention_heads=2, image_size=8, patch_size=4)


def wrapped():
    text = dict(BASE, model_type="gemma3_text", head_dim=4, sliding_window=6)
    return AutoConfig.for_model("gemma3", text_config=text, vision_config=VISION, mm_tokens_per_image=4,
                                image_token_index=36, boi_token_index=37, eoi_token_index=38)


def config_of(kind, **settings):
    return AutoConfig.for_model(kind, **dict(SHORT if kind in ("falcon", "gpt_neox") else BASE, **settings))


def write(name, config, change=None, **options):
    """Saves a random model of a config, with its tensors changed by `change`."""
    generator = torch.Generator().manual_seed(len(name))
    torch.manual_seed(0)
    auto = Gemma3ForConditionalGeneration._from_config if config.model_type == "gemma3" else AutoModelForCausalLM.from_config
    model = auto(config).eval()
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = 0.4 * noise if parameter.dim() > 1 else parameter.detach() + 0.2 * noise
    folder = os.path.join(OUT, name)
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, **options)
    if change:
        path = os.path.join(folder, "model.safetensors")
        tensors = load_file(path)
        change(tensors, lambda *shape: 0.4 * torch.randn(*shape, generator=generator))
        save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"format": "pt"})
    return folder


def edit(folder, **fields):
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config.update(fields)
    json.dump(config, open(path, "w"), indent=2)


def own_head(name, embedding):
    def change(tensors, random):
        tensors[name] = random(*tensors[embedding].shape)
    return change


def renamed_head(tensors, random):
    tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")


def copied_head(tensors, random):
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()


def unread(tensors, random):
    for layer in range(4):
        at = f"model.layers.{layer}"
        tensors[f"{at}.mlp.gate_proj.bias"] = random(12)
        tensors[f"{at}.self_attn.q_norm.weight"] = random(4)
        tensors[f"{at}.self_attn.q_proj.lora_A.weight"] = random(2, 16)
        tensors[f"{at}.self_attn.q_proj.lora_B.weight"] = random(16, 2)
        tensors[f"{at}.self_attn.o_proj.bias"] = torch.zeros(16)
    tensors["model.rotary_emb.inv_freq"] = random(2)
    tensors["extra.steps"] = torch.arange(3)


def beyond(tensors, random):
    for key in [key for key in tensors if key.startswith("model.layers.3.")]:
        tensors[key.replace("layers.3.", "layers.4.")] = tensors[key] + 1


tied = dict(tie_word_embeddings=True)
embedding = "model.embed_tokens.weight"
write("tied-own-head", config_of("llama", **tied), own_head("lm_head.weight", embedding))
write("tied-own-head-qwen2", config_of("qwen2", **tied), own_head("lm_head.weight", embedding))
write("tied-own-head-falcon", config_of("falcon", **tied), own_head("lm_head.weight", "transformer.word_embeddings.weight"))
write("tied-own-head-wrapped", wrapped(), own_head("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"))
write("tied-copy", config_of("llama", **tied), copied_head)
write("tied-head-only", config_of("llama", **tied), renamed_head)
write("unread", config_of("llama"), unread)
write("layers-beyond", config_of("llama"), beyond)

# The flag in the wrapper's text_config says no, the wrapper says yes.
folder = write("tied-own-head-inner", wrapped(), own_head("language_model.lm_head.weight", "language_model.model.embed_tokens.weight"))
text = json.load(open(os.path.join(folder, "config.json")))["text_config"]
edit(folder, text_config=dict(text, tie_word_embeddings=False))

# Weights beside those of another version: one file beside shards, and shards beside other shards.
old = write("other", config_of("llama"), max_shard_size="8KB")
folder = write("file-beside-shards", config_of("llama"))
shards = sorted(file for file in os.listdir(old) if file.startswith("model"))
for file in shards[:1] + shards[-1:]:
    shutil.copy(os.path.join(old, file), folder)
folder = write("shards-beside-shards", config_of("llama"), max_shard_size="12KB")
shutil.copy(os.path.join(old, shards[0]), folder)
shutil.rmtree(old)

# An index that leaves out the head, which one of its shards holds.
folder = write("index-without-head", config_of("llama"), max_shard_size="12KB")
path = os.path.join(folder, "model.safetensors.index.json")
index = json.load(open(path))
del index["weight_map"]["lm_head.weight"]
json.dump(index, open(path, "w"), indent=2)


def inner_of(model):
    inner = getattr(model, "model", None) or getattr(model, "transformer", None)
    return getattr(inner, "language_model", inner)


@torch.no_grad()
def record(name):
    folder = os.path.join(OUT, name)
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 36, (1, 20), generator=generator)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    golden = {"ids": ids[0].int(), "logits": model(ids).logits[0].clone()}
    inner = inner_of(model)
    layers = "h" if hasattr(inner, "h") else "layers"
    kept = [layer for layer in range(len(getattr(inner, layers))) if layer != 1]
    setattr(inner, layers, torch.nn.ModuleList([getattr(inner, layers)[layer] for layer in kept]))
    if getattr(inner.config, "layer_types", None):
        inner.config.layer_types = [inner.config.layer_types[layer] for layer in kept]
    inner.config.num_hidden_layers = len(kept)
    golden["kept"] = torch.tensor(kept, dtype=torch.int32)
    golden["kept_logits"] = model(ids, use_cache=False).logits[0].clone()
    save_file(golden, os.path.join(folder, "golden.safetensors"))
    for file in ("generation_config.json",):
        if os.path.exists(os.path.join(folder, file)):
            os.remove(os.path.join(folder, file))
    print(name, f"{golden['logits'].abs().max():.2f}")


for name in sorted(os.listdir(OUT)):
    record(name)
