"""Writes what healingGolden.test.ts compares with: a tiny random Llama, the same without two of its layers, and the
losses of 20 AdamW steps by PyTorch on a few fixed sequences, for each way of healing.

    python healing_losses.py test/data/healing

FOLDER/teacher, FOLDER/pruned: model folders in f32; FOLDER/losses.json: {"sequences": [[...], ...], "runs": [...]}.
"""
import json
import math
import shutil
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

folder = Path(sys.argv[1])
PATCHED, REMOVED, STEPS = 1, [2, 3], 20
torch.manual_seed(1)
torch.set_default_dtype(torch.float32)

config = LlamaConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
    head_dim=4, vocab_size=48, max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0,
    tie_word_embeddings=False, bos_token_id=None, eos_token_id=0, pad_token_id=None,
)
teacher = LlamaForCausalLM(config)
with torch.no_grad():
    for name, value in teacher.named_parameters():
        if value.dim() == 1:
            value.copy_(1 + 0.1 * torch.randn_like(value))
        else:
            value.copy_(torch.randn_like(value) / math.sqrt(value.shape[1]))
    teacher.model.embed_tokens.weight.mul_(4)


def pruned_copy():
    model = LlamaForCausalLM(LlamaConfig(**{**config.to_dict(), "num_hidden_layers": 3}))
    kept = [i for i in range(5) if i not in REMOVED]
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, value in teacher.named_parameters():
            parts = name.split(".")
            if parts[1] == "layers":
                if int(parts[2]) not in kept:
                    continue
                parts[2] = str(kept.index(int(parts[2])))
            own[".".join(parts)].copy_(value)
    return model


sequences = [torch.randint(0, 48, (length,)).tolist() for length in (19, 11, 24, 7, 16)]


def predictions(model):
    """Logits of all places that predict a token, and those tokens; each sequence on its own."""
    logits = torch.cat([model(input_ids=torch.tensor([ids])).logits[0, :-1] for ids in sequences])
    return logits, torch.tensor([token for ids in sequences for token in ids[1:]])


with torch.no_grad():
    taught = F.log_softmax(predictions(teacher)[0], dim=-1)


def lm(logits, targets):
    return F.cross_entropy(logits, targets)


def kl(logits, _):
    return (taught.exp() * (taught - F.log_softmax(logits, dim=-1))).sum(-1).mean()


def top_kl(k):
    """The k most likely tokens of the teacher one by one, all others as one."""
    def loss(logits, _):
        student = F.log_softmax(logits, dim=-1)
        p, ids = taught.topk(k, dim=-1)
        q = student.gather(-1, ids)
        rest_p, rest_q = torch.log1p(-p.exp().sum(-1)), torch.log1p(-q.exp().sum(-1))
        return ((p.exp() * (p - q)).sum(-1) + rest_p.exp() * (rest_p - rest_q)).mean()

    return loss


class Mapped(torch.nn.Module):
    """An MLP whose output is multiplied by T, from the right."""
    def __init__(self, mlp):
        super().__init__()
        self.mlp, self.map = mlp, torch.nn.Parameter(torch.eye(16))

    def forward(self, x):
        return self.mlp(x) @ self.map


def run(train, objective, loss_of, *, lr, warmup, clip, weight_decay):
    model = pruned_copy()
    if train == "transform":
        layer = model.model.layers[PATCHED]
        layer.mlp = Mapped(layer.mlp)
        parameters = [layer.mlp.map]
    elif train == "down-proj":
        parameters = [model.model.layers[PATCHED].mlp.down_proj.weight]
    else:
        parameters = list(model.parameters())
    for value in model.parameters():
        value.requires_grad_(False)
    for value in parameters:
        value.requires_grad_(True)
    optimizer = torch.optim.AdamW([
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ], lr=lr)
    losses, norms = [], []
    for step in range(STEPS):
        share = (step + 1) / (warmup + 1) if step < warmup else (1 + math.cos(math.pi * (step - warmup) / (STEPS - warmup))) / 2
        for group in optimizer.param_groups:
            group["lr"] = lr * share
        optimizer.zero_grad()
        loss = loss_of(*predictions(model))
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, clip).item())
        losses.append(loss.item())
        optimizer.step()
    with torch.no_grad():
        losses.append(loss_of(*predictions(model)).item())
    settings = {"learningRate": lr, "warmup": warmup, "clip": clip, "weightDecay": weight_decay}
    return {"train": train, "objective": objective, "settings": settings, "losses": losses, "gradientNorms": norms}


def name_top(k):
    return {"objective": "kl", "topK": k}


runs = [
    run("transform", {"objective": "kl", "topK": "all"}, kl, lr=3e-2, warmup=0, clip=1e9, weight_decay=0.0),
    run("transform", name_top(5), top_kl(5), lr=3e-2, warmup=3, clip=0.5, weight_decay=0.0),
    run("down-proj", name_top(5), top_kl(5), lr=1e-2, warmup=2, clip=1.0, weight_decay=0.05),
    run("full", {"objective": "lm", "topK": 100}, lm, lr=3e-3, warmup=2, clip=1.0, weight_decay=0.05),
    run("full", {"objective": "kl", "topK": "all"}, kl, lr=1e-3, warmup=0, clip=1.0, weight_decay=0.0),
]

# One token a character: only that both models have the same tokenizer matters.
tokenizer = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
    "post_processor": None, "decoder": None,
    "model": {"type": "WordLevel", "vocab": {chr(48 + i): i for i in range(48)}, "unk_token": "0"},
}
for name, model in (("teacher", teacher), ("pruned", pruned_copy())):
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    state = {key: value.detach().clone() for key, value in model.named_parameters()}
    save_file(state, target / "model.safetensors", metadata={"format": "pt"})
    fields = {
        key: value for key, value in model.config.to_dict().items()
        if key in ("architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
                   "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
                   "rms_norm_eps", "tie_word_embeddings", "hidden_act", "attention_bias", "mlp_bias", "eos_token_id")
    }
    (target / "config.json").write_text(json.dumps({
        **fields, "architectures": ["LlamaForCausalLM"], "model_type": "llama", "rope_theta": 10000.0, "torch_dtype": "float32",
    }, indent=1) + "\n")
    (target / "tokenizer.json").write_text(json.dumps(tokenizer) + "\n")
(folder / "losses.json").write_text(json.dumps({"patched": PATCHED, "sequences": sequences, "runs": runs}) + "\n")
for entry in runs:
    print(entry["train"], entry["objective"], [round(value, 4) for value in entry["losses"][::5]], max(entry["gradientNorms"]))
