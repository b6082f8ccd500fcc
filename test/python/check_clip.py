"""Loads a pruned CLIP folder with stock transformers and compares image embeddings with those of rm-engine.

    python check_clip.py PRUNED OURS.json        (torch, transformers, Pillow)

OURS.json: {"images": [path, ...], "embeddings": [...]}, row by row. Fails where one differs by more than 1e-4.
"""
import json
import sys

import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

pruned, ours = sys.argv[1:]
model, info = CLIPModel.from_pretrained(pruned, dtype=torch.float32, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"], info
ours = json.load(open(ours))
processor = CLIPImageProcessorPil.from_pretrained(pruned)
pixels = processor([Image.open(path) for path in ours["images"]], return_tensors="pt")["pixel_values"]
with torch.no_grad():
    found = model.eval().get_image_features(pixel_values=pixels)
found = found if torch.is_tensor(found) else found.pooler_output
error = (found.flatten() - torch.tensor(ours["embeddings"])).abs().max().item()
print(f"embeddings differ by {error:.3g}")
sys.exit(error > 1e-4)
