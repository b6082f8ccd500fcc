"""Loads a pruned vision encoder with stock transformers and compares image embeddings with those of rm-engine.

    python check_clip.py PRUNED OURS.json        (torch, transformers, Pillow)

OURS.json: {"images": [path, ...], "embeddings": [...]}, row by row. Fails where one differs by more than 1e-4.
"""
import json
import sys

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoImageProcessor

from make_clip import embeddings, white

pruned, ours = sys.argv[1:]
[name] = AutoConfig.from_pretrained(pruned).architectures
model, info = getattr(transformers, name).from_pretrained(pruned, dtype=torch.float32, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
ours = json.load(open(ours))
processor = AutoImageProcessor.from_pretrained(pruned, backend="pil")
pixels = processor([white(Image.open(path)) for path in ours["images"]], return_tensors="pt")["pixel_values"]
found = embeddings(model.eval(), pixels)
error = (found.flatten() - torch.tensor(ours["embeddings"])).abs().max().item()
print(f"embeddings differ by {error:.3g}")
sys.exit(error > 1e-4)
