"""PyTorch on the CPU, the outside reference: python pytorch.py [MODEL FOLDER]. Speaks the lines of bench/peers/serve.ts."""
import json
import sys
import time

import torch

EPS = 1e-5


def timed(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def repeated(run):
    def sample(repeats):
        def work():
            for _ in range(repeats):
                run()

        return timed(work)

    return sample


def matmul(task):
    a, b = torch.rand(task["m"], task["k"]) - 0.5, torch.rand(task["k"], task["n"]) - 0.5
    return repeated(lambda: a @ b)


def mlp(task):
    tokens, hidden, intermediate = task["tokens"], task["hidden"], task["intermediate"]
    x, gain = torch.rand(tokens, hidden) - 0.5, torch.rand(hidden)
    gate, up = torch.rand(intermediate, hidden) - 0.5, torch.rand(intermediate, hidden) - 0.5
    down = torch.rand(hidden, intermediate) - 0.5

    def run():
        z = torch.nn.functional.rms_norm(x, (hidden,), gain, EPS)
        features = torch.nn.functional.silu(z @ gate.t()) * (z @ up.t())
        return features @ down.t()

    return repeated(run)


MODEL = None


def model():
    """The folder in f32."""
    global MODEL
    if MODEL is None:
        from transformers import AutoModelForCausalLM

        MODEL = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
    return MODEL


def prefill(task):
    ids = torch.tensor([task["ids"]])
    return repeated(lambda: model()(ids, use_cache=False, logits_to_keep=1))


def decode(task):
    ids, tokens = torch.tensor([task["ids"]]), task["tokens"]

    def sample(_):
        out = model()(ids, use_cache=True, logits_to_keep=1)
        start = time.perf_counter()
        for _ in range(tokens):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            out = model()(token, past_key_values=out.past_key_values, use_cache=True)
        return (time.perf_counter() - start) * 1e3

    return sample


TASKS = {"matmul": matmul, "mlp": mlp, "prefill": prefill, "decode": decode}


def main():
    sample = None
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            request = json.loads(line)
            if "sample" in request:
                reply = {"milliseconds": sample(request["sample"])}
            else:
                sample = TASKS[request["prepare"]["task"]](request["prepare"])
                for _ in range(request["warmups"]):
                    once = sample(1)
                repeats = request.get("repeats") or max(2, min(64, round(300 / once)))
                adapter = f"CPU, {torch.get_num_threads()} threads, float32"
                reply = {"version": torch.__version__, "adapter": adapter, "repeats": repeats}
        except Exception as error:  # Whatever it is, the caller wants to know.
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(f"\n@peers {json.dumps(reply)}", flush=True)


with torch.no_grad():
    main()
