"""Reads a model card as the Hugging Face hub's library does and prints what it found: check_card.py README.md"""

import json
import sys

from huggingface_hub import ModelCard

data = ModelCard.load(sys.argv[1]).data
# model-index becomes a list of EvalResult, which checks the fields that the hub needs.
results = [
    {"dataset": r.dataset_name, "type": r.dataset_type, "task": r.task_type, "metric": r.metric_type, "value": r.metric_value}
    for r in data.eval_results
]
print(json.dumps({**{k: data.to_dict().get(k) for k in ("base_model", "license", "language", "tags", "pipeline_tag", "library_name")}, "name": data.model_name, "results": results}))
