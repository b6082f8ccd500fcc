"""Golden gradients of tiny random models by PyTorch's autograd: test/data/gradients.

    python make_gradients.py OUT [NAME...]

For every model a folder OUT/NAME: config.json and model.safetensors (f32) as transformers writes them, and gradients.safetensors
with `ids` (I64, two sequences one after the other, cut by `lengths`), `targets` (the next token, 0 where there is none), `weights`
(f32 by token), the losses `loss.lm` and the gradients `lm/NAME` of sum(weights * loss) by every parameter. `teacher.hidden` and
`teacher.head` make a teacher; its KL divergence has `loss.kl` and `kl/NAME`, that over its 5 likeliest tokens and the rest as
one `loss.top-kl` and `top-kl/NAME`. All computed in f64 from the stored weights.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

LENGTHS = [9, 5]
K = 5
SMALL = dict(vocab_size=37, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
             max_position_embeddings=32, bos_token_id=0, eos_token_id=1, pad_token_id=2)

MODELS = {
    "llama": dict(model_type="llama", num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
    "qwen2": dict(model_type="qwen2", num_key_value_heads=2, tie_word_embeddings=False),
    "mistral": dict(model_type="mistral", num_key_value_heads=1, head_dim=8, sliding_window=3, tie_word_embeddings=False),
    "qwen3": dict(model_type="qwen3", num_key_value_heads=2, head_dim=8, tie_word_embeddings=True),
    "gemma2": dict(model_type="gemma2", num_key_value_heads=2, head_dim=8, sliding_window=4, query_pre_attn_scalar=8,
                   attn_logit_softcapping=3.0, final_logit_softcapping=4.0, tie_word_embeddings=True),
    "olmo2": dict(model_type="olmo2", num_key_value_heads=2, tie_word_embeddings=False),
    "granite": dict(model_type="granite", num_key_value_heads=2, tie_word_embeddings=True, embedding_multiplier=3.0,
                    residual_multiplier=0.4, attention_multiplier=0.3, logits_scaling=2.0),
    "gpt_neox": dict(model_type="gpt_neox", hidden_size=24, rotary_pct=0.5, use_parallel_residual=True, tie_word_embeddings=False),
    "glm4": dict(model_type="glm4", num_hidden_layers=1, intermediate_size=12, num_key_value_heads=2, head_dim=8,
                 rms_norm_eps=1e-5, tie_word_embeddings=True),
    "hunyuan": dict(model_type="hunyuan_v1_dense", num_hidden_layers=1, intermediate_size=12, num_key_value_heads=2,
                    head_dim=6, tie_word_embeddings=True),
    "apertus": dict(model_type="apertus", num_hidden_layers=1, intermediate_size=12, num_key_value_heads=2,
                    tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=1e4)),
}


def losses(logits, kind, targets, teacher_logits):
    log_q = logits.log_softmax(-1)
    if kind == "lm":
        return -log_q.gather(1, targets[:, None])[:, 0]
    log_p = teacher_logits.log_softmax(-1)
    if kind == "kl":
        return (log_p.exp() * (log_p - log_q)).sum(-1)
    top, ids = log_p.topk(K)
    others = torch.ones_like(log_p).scatter(1, ids, 0).bool()
    rest = [x.masked_fill(~others, -torch.inf).logsumexp(-1) for x in (log_p, log_q)]
    return (top.exp() * (top - log_q.gather(1, ids))).sum(-1) + rest[0].exp() * (rest[0] - rest[1])


def make(out, name, options):
    torch.manual_seed(sum(map(ord, name)))
    config = AutoConfig.for_model(**{**SMALL, **options}, attn_implementation="eager")
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            # Larger than the default: softmax and activations are to be felt. Norms and biases are not their neutral values.
            spread = 0.2 if parameter.dim() == 1 else 1.5 / parameter.shape[-1] ** 0.5
            parameter.copy_(torch.randn_like(parameter) * spread + ("norm" in key and key.endswith("weight")))
    folder = out / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    # What is called otherwise in the checkpoint than in the model.
    stored = {"lm_head.weight": "embed_out.weight"} if name == "gpt_neox" else {}
    model = model.double().eval()
    tokens = sum(LENGTHS)
    # Not the padding: torch.nn.Embedding gives it no gradient.
    ids = torch.randint(3, SMALL["vocab_size"], (tokens,))
    # A token that comes back: its embedding has gradients of several places.
    ids[3] = ids[0]
    targets = torch.cat([torch.cat([part[1:], part.new_zeros(1)]) for part in ids.split(LENGTHS)])
    ends = torch.tensor(LENGTHS).cumsum(0) - 1
    weights = (torch.rand(tokens) / tokens).index_fill(0, ends, 0.0)
    teacher = {"teacher.hidden": torch.randn(tokens, 12), "teacher.head": torch.randn(SMALL["vocab_size"], 12)}
    teacher_logits = (teacher["teacher.hidden"].double() @ teacher["teacher.head"].double().T)
    golden = {"ids": ids, "lengths": torch.tensor(LENGTHS), "targets": targets, "weights": weights, **teacher}
    for kind in ("lm", "kl", "top-kl"):
        model.zero_grad()
        logits = torch.cat([model(input_ids=part[None]).logits[0] for part in ids.split(LENGTHS)])
        loss = losses(logits, kind, targets, teacher_logits)
        (weights.double() * loss).sum().backward()
        golden[f"loss.{kind}"] = loss.detach().float()
        for key, parameter in model.named_parameters():
            golden[f"{kind}/{stored.get(key, key)}"] = parameter.grad.float()
    save_file({key: tensor.contiguous().clone() for key, tensor in golden.items()}, folder / "gradients.safetensors")
    config = json.loads((folder / "config.json").read_text())
    config.pop("transformers_version", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    print(name, sum(tensor.numel() for tensor in golden.values()), "numbers")


if __name__ == "__main__":
    out, names = Path(sys.argv[1]), sys.argv[2:] or list(MODELS)
    for name in names:
        make(out, name, MODELS[name])
