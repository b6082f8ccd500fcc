"""Loads pruned folders with stock transformers and compares them with what rm-engine computed.

    python check_families.py FOLDER ...

Each FOLDER holds a model and expected.json: {"ids": [...], "logits": [[...], ...], "unexpected": 0, "config": {field: repr}}. Every
one must load without missing tensors and with so many unexpected ones, with these fields of its config.json, give these logits in float32 (largest difference 1e-4), generate the same tokens with and without
a KV cache, give the logits of "image" (where there are any) with the picture of image_inputs.py, and in bfloat16 stay within what rounding every step to 8 bits does to logits of a few units.
Ends with the line 'N passed, N failed'.
"""
import json
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
from image_inputs import TOKENS, image_inputs
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

passed = failed = 0


def check(what, value, bound):
    global passed, failed
    good = value <= bound
    passed, failed = passed + good, failed + (not good)
    if not good:
        print(f"FAILED {what}: {value:.3g} (bound {bound:g})")


@torch.no_grad()
def run(folder):
    name = "/".join(folder.rstrip("/").split("/")[-2:])
    kind = AutoConfig.from_pretrained(folder).model_type
    auto = AutoModelForImageTextToText if kind in TOKENS else AutoModelForCausalLM
    expected = json.load(open(os.path.join(folder, "expected.json")))
    for field, value in expected.get("config", {}).items():
        found = repr(getattr(AutoConfig.from_pretrained(folder), field))
        check(f"{name}: config.json, {field} is {found}", found != value, 0)
    ids, ours = torch.tensor([expected["ids"]]), torch.tensor(expected["logits"])

    def load(dtype):
        # Gemma 2 needs the eager form for its capped scores.
        options = dict(dtype=dtype, attn_implementation="eager", output_loading_info=True)
        if kind in ("mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss"):
            # torch's grouped products want rows of whole 16 bytes.
            options["experts_implementation"] = "eager"
        model, info = auto.from_pretrained(folder, **options)
        check(f"{name}: missing tensors", len(info["missing_keys"]), 0)
        check(f"{name}: unexpected tensors, beside those known", abs(len(info["unexpected_keys"]) - expected.get("unexpected", 0)), 0)
        return model.eval()

    model = load(torch.float32)
    check(f"{name}: logits", (model(ids).logits[0] - ours).abs().max().item(), 1e-4)
    if "image" in expected:
        error = (model(**image_inputs(kind)).logits[0] - torch.tensor(expected["image"])).abs().max().item()
        check(f"{name}: logits with a picture", error, 1e-4)
    model.generation_config.eos_token_id = None
    settings = dict(attention_mask=torch.ones(1, 12, dtype=torch.long), max_new_tokens=8, do_sample=False)
    cached, uncached = (model.generate(ids[:, :12], use_cache=use, **settings) for use in (True, False))
    check(f"{name}: tokens that differ with and without cache", (cached != uncached).sum().item(), 0)
    spread = ours.std().item()
    rounded = (load(torch.bfloat16)(ids).logits[0].float() - ours).pow(2).mean().sqrt().item()
    # What a tiny delta rule reads from its memory is small before it is normalised, and then carries more rounding.
    bound = 0.2 if kind.startswith("qwen3_5") else 0.1
    check(f"{name}: logits in bfloat16, of their own spread", rounded / spread, bound)


for path in sys.argv[1:]:
    run(path)
print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
