"""The original ReplaceMe program (least squares) on the CPU, from an unchanged checkout of mts-ai/ReplaceMe.

python replaceme.py CHECKOUT MODEL CALIB.jsonl LAYERS OUT

What its code assumes and a plain CPU machine does not have is supplied from outside: the device 'cuda', the dtype float32
that older transformers loaded by default, torch.load of lists of numpy floats, and packages that it imports but does
not need here. It reads the texts of CALIB.jsonl instead of a data set from the network. Prints one line of JSON.
"""
import json
import os
import sys
import time
import types

checkout, model, calib = map(os.path.abspath, sys.argv[1:4])
layers, out = int(sys.argv[4]), os.path.abspath(sys.argv[5])
started = time.time()

import torch
import transformers
from torch.utils.data import DataLoader


class Stub(types.ModuleType):
    """A module whose every name is something harmless."""

    __path__ = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return "" if name.isupper() else Stub(name)

    def __call__(self, *args, **kwargs):
        return args[0] if args else None


class Fore(Stub):
    def __getattr__(self, name):
        return ""


for name in ("lm_eval", "torchmin", "datasets", "colorama", "termcolor"):
    try:
        __import__(name)
    except ImportError:
        sys.modules[name] = Stub(name)
        if name == "colorama":
            sys.modules[name].Fore = Fore("Fore")


def on_cpu(function):
    def call(*args, device=None, **kwargs):
        return function(*args, device="cpu" if device == "cuda" else device, **kwargs)

    return call


if not torch.cuda.is_available():
    torch.zeros, torch.eye = on_cpu(torch.zeros), on_cpu(torch.eye)
load = torch.load
torch.load = lambda *args, **kwargs: load(*args, **{"weights_only": False, **kwargs})
from_pretrained = transformers.AutoModelForCausalLM.from_pretrained


def load_model(*args, torch_dtype=torch.float32, device_map=None, **kwargs):
    # A map to the CPU alone changes nothing and needs the package accelerate.
    map_to_gpu = {} if device_map == "cpu" else {"device_map": device_map}
    return from_pretrained(*args, dtype=torch_dtype, **map_to_gpu, **kwargs)


transformers.AutoModelForCausalLM.from_pretrained = load_model

sys.path.insert(0, checkout)
import importlib

distance = importlib.import_module("ReplaceMe.distance")
lstsq = importlib.import_module("ReplaceMe.lstsq")

with open(calib, encoding="utf-8") as file:
    texts = [json.loads(line)["text"] for line in file if line.strip()]


def calibration(dataset, subset, column, size, batch_size, tokenizer):
    return DataLoader(texts, batch_size=batch_size, shuffle=False, drop_last=True)


distance.get_calib_dataloader = lstsq.get_calib_dataloader = calibration

selected = []
select = lstsq.select_non_overlapping_blocks


def remember(*args, **kwargs):
    selected.extend(select(*args, **kwargs))
    return selected


lstsq.select_non_overlapping_blocks = remember

os.makedirs(out, exist_ok=True)
os.chdir(out)
common = dict(
    model_path=model,
    dataset="",
    dataset_column="text",
    batch_size=8,
    max_length=512,
    layers_to_skip=layers,
    dataset_size=len(texts),
    dataset_subset="train",
    use_4bit=False,
)
imported = time.time()
distance.profile_distances(**common)
profiled = time.time()
lstsq.lstsq(**common, save_path=os.path.join(out, "pruned"), alpha=0, num_A=1, merge_consecutive=True, distances_path="./distances.pth")
ended = time.time()
# A block (start, end) removes the layers start .. end-1, counted from 0.
print(
    "@peers "
    + json.dumps(
        {
            "imports": imported - started,
            "distances": profiled - imported,
            "fit": ended - profiled,
            "kept": selected[0][0] - 1,
            "threads": torch.get_num_threads(),
            "version": f"torch {torch.__version__}, transformers {transformers.__version__}",
        }
    )
)
