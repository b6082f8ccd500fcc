"""What lm-eval itself makes of the rows of test/data/tasks: the log-likelihood of every choice, and the metrics.

    python lm_eval_scores.py MODEL OUT.json [--limit ROWS]

The cases are those of test/data/tasks/cases.json. Where lm-eval has the task, its own definition is run, YAML and Python,
with nothing replaced but where the rows come from; of race_middle, the rows are first put into the form that lm-eval's race
reads. Tasks that lm-eval has not are run from the files in assets/tasks. float32 on the CPU, without a chat template.
"""
import argparse
import json
import os
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", DISABLE_MULTIPROC="1")
import lm_eval
import yaml
from lm_eval.api.metrics import aggregate_subtask_metrics, pooled_sample_stderr
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

root = Path(__file__).parents[2]
rows_folder = root / "test" / "data" / "tasks"
# The names of lm-eval's definitions, where they differ from ours; those with None are not in lm-eval.
names = {"race_high": "race", "race_middle": "race", "lambada": "lambada_openai"}
names |= dict.fromkeys(("c3", "cmnli", "chid", "cluewsc"))
grouped = ("mmlu", "cmmlu")


def read_rows(name):
    rows = [json.loads(line) for line in open(rows_folder / f"{name}.jsonl", encoding="utf-8")]
    if name == "race_middle":
        problem = lambda row: {"question": row["question"], "answer": row["answer"], "options": row["options"]}
        return [{"article": row["article"], "problems": str([problem(row)])} for row in rows]
    return rows


def definition(name):
    """lm-eval's own, as its task manager reads it, or ours."""
    theirs = names.get(name, name)
    if theirs is None:
        ours = yaml.safe_load(open(root / "assets" / "tasks" / f"{name}.yaml", encoding="utf-8"))
        return {key: value for key, value in ours.items() if key not in ("dataset", "paper")}
    return {key: value for key, value in load_yaml(manager.task_index[theirs].yaml_path).items() if key != "tag"}


def make_task(name, task_name, rows, examples, fewshot, folder):
    config = definition(name)
    files = {"test": rows, **({"train": examples} if examples else {})}
    paths = {}
    for split, content in files.items():
        path = paths[split] = os.path.join(folder, f"{task_name}-{split}.jsonl")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    config |= {
        "task": task_name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": paths, "cache_dir": folder},
        "training_split": None,
        "validation_split": None,
        "test_split": "test",
        "fewshot_split": "train" if examples else "test",
        "fewshot_config": {"sampler": "first_n"},
        "num_fewshot": fewshot,
    }
    return ConfigurableTask(config=config)


def make_tasks(case, folder):
    """The case as lm-eval's tasks, one per subject where there are some, each with the indices of its rows."""
    name, fewshot = case["task"], case.get("fewshot", 0)
    rows = read_rows(name)
    examples = read_rows(case["examples"]) if "examples" in case else []
    if name not in grouped:
        return [(make_task(name, f"{name}-{fewshot}", rows, examples, fewshot, folder), range(len(rows)))]
    tasks = []
    for subject in sorted({row["subject"] for row in rows}):
        of = lambda some: [row for row in some if row["subject"] == subject]
        indices = [i for i, row in enumerate(rows) if row["subject"] == subject]
        task_name = f"{name}_{subject}"
        tasks.append((make_task(task_name, f"{task_name}-{fewshot}", of(rows), of(examples), fewshot, folder), indices))
    return tasks


def scores(case, tasks, results):
    """Log-likelihoods by row in the order of the file, metrics as lm-eval names them, weighted by the size of subjects."""
    rows, greedy, sizes = {}, {}, []
    for task, indices in tasks:
        samples = results["samples"][task.config.task]
        sizes.append(len(samples))
        for sample in samples:
            at = indices[sample["doc_id"]]
            answers = sample["filtered_resps"]
            answers = answers if isinstance(answers[0], (list, tuple)) else [answers]
            rows[at] = [round(float(likelihood), 5) for likelihood, _ in answers]
            greedy[at] = [int(str(flag) == "True") for _, flag in answers]
    metrics = {}
    of_tasks = [results["results"][task.config.task] for task, _ in tasks]
    for key in of_tasks[0]:
        metric, _, filter_name = key.partition(",")
        values = [of_task[key] for of_task in of_tasks]
        if filter_name != "none" or not all(isinstance(value, float) for value in values):
            continue
        if len(values) == 1:
            metrics[metric] = values[0]
        else:
            aggregate = pooled_sample_stderr if metric.endswith("_stderr") else aggregate_subtask_metrics
            metrics[metric] = float(aggregate(values, sizes))
    in_order = lambda values: [values[at] for at in sorted(values)]
    return {**case, "metrics": metrics, "logLikelihoods": in_order(rows), "greedy": in_order(greedy)}


arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("out")
arguments.add_argument("--limit", type=int, help="rows of each task, or of each of its subjects; default: all")
given = arguments.parse_args()
manager = TaskManager()
model = HFLM(pretrained=given.model, dtype="float32", device="cpu", batch_size=4)
cases = json.load(open(rows_folder / "cases.json"))
with tempfile.TemporaryDirectory() as folder:
    made = [make_tasks(case, folder) for case in cases]
    results = lm_eval.simple_evaluate(
        model=model, tasks=[task for tasks in made for task, _ in tasks], limit=given.limit, task_manager=manager
    )
    found = [scores(case, tasks, results) for case, tasks in zip(cases, made)]
versions = {name: version(name) for name in ("lm-eval", "transformers", "torch")}
with open(given.out, "w") as file:
    head = json.dumps({"versions": versions, "limit": given.limit})[:-1]
    file.write(head + ', "cases": [\n' + ",\n".join(json.dumps(case) for case in found) + "\n]}\n")
