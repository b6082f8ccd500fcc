"""Checks a pruned folder for what vLLM's loaders and llama.cpp's converter rely on (docs/output.md), without either.

    python check_served.py BASE PRUNED DTYPE

Ends with the line 'N passed, N failed'.
"""
import json
import pathlib
import sys

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

base, pruned, dtype = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
passed = failed = 0


def check(what, good):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok    ' if good else 'FAILED'} {what}")


config = AutoConfig.from_pretrained(pruned)
before, after = (json.loads((folder / "config.json").read_text()) for folder in (base, pruned))

# vLLM builds num_hidden_layers layers and asks for each parameter of the architecture by its name and shape; what is
# left over is an error. The model that transformers builds without weights has the same names.
with torch.device("meta"):
    expected = {name: tuple(value.shape) for name, value in AutoModelForCausalLM.from_config(config).state_dict().items()}
if config.tie_word_embeddings:
    expected.pop("lm_head.weight", None)
found, types, sizes = {}, set(), 0
for file in sorted(pruned.glob("*.safetensors")):
    with safe_open(file, "pt") as shard:
        check(f"{file.name}: the header says format pt", shard.metadata() == {"format": "pt"})
        for name in shard.keys():
            check(f"{name} is there once", name not in found)
            tensor = shard.get_tensor(name)
            found[name] = tuple(tensor.shape)
            types.add(str(tensor.dtype).removeprefix("torch."))
            sizes += tensor.numel() * tensor.element_size()
check("names and shapes are those of the architecture, none more", found == expected)
check(f"all weights are {dtype}, and config.json says so", types == {dtype} and (after.get("dtype") or after.get("torch_dtype")) == dtype)
index = pruned / "model.safetensors.index.json"
if index.exists():
    stated = json.loads(index.read_text())
    check("the index names all tensors", set(stated["weight_map"]) == set(found))
    check("total_size of the index", stated["metadata"]["total_size"] == sizes)

# Both choose code by these.
check("architectures and model_type as before", all(before[key] == after[key] for key in ("architectures", "model_type")))
blocks = {int(name.split(".")[2]) for name in found if name.startswith("model.layers.")}
check("blocks are numbered from 0 without gaps", blocks == set(range(after["num_hidden_layers"])))
lists = [key for key, value in before.items() if isinstance(value, list) and len(value) == before["num_hidden_layers"]]
check(f"lists of one entry per layer are cut: {lists}", all(len(after[key]) == after["num_hidden_layers"] for key in lists))
changed = {key for key in before if before[key] != after.get(key)}
check(f"nothing else in config.json has changed: {sorted(changed)}", changed <= {"num_hidden_layers", "dtype", "torch_dtype", *lists})

# The vocabulary of the tokenizer fits the embedding; token ids are in range.
tokenizer = AutoTokenizer.from_pretrained(pruned)
check("the tokenizer's largest id is in the vocabulary", max(tokenizer.get_vocab().values()) < config.vocab_size)
check("generation_config.json loads as before", GenerationConfig.from_pretrained(pruned).to_dict() == GenerationConfig.from_pretrained(base).to_dict())
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    check(f"{name} byte for byte", (base / name).read_bytes() == (pruned / name).read_bytes())

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
