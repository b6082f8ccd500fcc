"""Compares hidden states of a padded batch with what transformers gives (default attention, mask, no position ids).

    python padded_states.py MODEL STATES.json

STATES.json: {"ids": [[...], ...] (rows padded on the right), "lengths": [...], "layers": {"i": [[...], ...], ...}}: by layer
the outputs of all rows, as rm-engine computed them. Ends with the line 'N passed, N failed'.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM

folder, states_file = sys.argv[1:]
states = json.load(open(states_file))
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids, lengths = torch.tensor(states["ids"]), torch.tensor(states["lengths"])
mask = (torch.arange(ids.shape[1])[None] < lengths[:, None]).long()
with torch.no_grad():
    # As the original ReplaceMe program calls it.
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[1:]

passed = failed = 0
for layer, ours in states["layers"].items():
    ours = torch.tensor(ours).reshape(*ids.shape, -1)
    theirs = hidden[int(layer)]
    error = ((ours - theirs).norm(dim=-1) / theirs.norm(dim=-1))
    for what, rows in (("text", mask == 1), ("padding", mask == 0)):
        worst = error[rows].max().item()
        good = worst <= 1e-3
        passed, failed = passed + good, failed + (not good)
        print(f"{'ok    ' if good else 'FAILED'} layer {layer}, {rows.sum().item()} rows of {what}: relative error {worst:.2e} (bound 1e-3)")
print(f"attention: {model.config._attn_implementation}; {passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
