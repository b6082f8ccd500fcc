"""What lm-eval itself makes of tasks whose answers are generated: prompts, filters, scores, and the demo model's texts.

    python lm_eval_generated.py MODEL OUT.json

Of gsm8k lm-eval's own definition is run, with nothing replaced but where the rows come from; the other tasks are those of
test/data/tasks/generated. float32 on the CPU, one row at a time: with more, lm-eval goes on after a stop string that is a
special token.
"""
import argparse
import json
import os
import random
import tempfile
from importlib.metadata import version
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false", DISABLE_MULTIPROC="1")
import lm_eval
import yaml
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

rows_folder = Path(__file__).parents[2] / "test" / "data" / "tasks"
own_folder = rows_folder / "generated"

# Templates as chat models have them: with a system message, and one that refuses it.
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}[{{ message['role'] }}] {{ message['content'] | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)
STYLES = [
    {},
    {"system_instruction": "Answer with numbers."},
    {"chat": CHATML},
    {"chat": CHATML, "fewshot_as_multiturn": False},
    {"chat": CHATML, "system_instruction": "Answer with numbers.\n"},
    {"chat": NO_SYSTEM, "system_instruction": "Answer with numbers.", "fewshot_as_multiturn": False},
    {"chat": NO_SYSTEM, "system_instruction": "Answer with numbers."},
]

# Answers by hand: how models write numbers, and what filters stumble on.
BY_HAND = [
    "", " ", "#### 5", "####5", "#### -1,234.50", "#### $12", "The answer is 12.", "It is $1,200.00.", "1 2 3", "-7",
    "no number", "...", "#### 3\n#### 4", "#### 1,000.\n", "so 39 pears. #### 39 pears", "#### 39.0", "#### ,", "$.",
    "The bags hold 16 pears.\nSo Ada has 39 pears.\n#### 39\n\nQuestion: and", "３９", "#### ٣٩", "39\u00a0", "\u2028#### 39",
    "Yes", "yes.", " YES! ", "No", "maybe", "ÇA VA", "straße", "İstanbul", "red", "Blue", "  blue \t", "b", "B)", "\x1fb\x1c",
]


def random_answers(count):
    chance = random.Random(0)
    parts = ["#### ", "39", "1,000", ".", "-", "$", "\n", " ", "Question:", "so", "the answer", "Yes", "é", "7", "12.5", "%"]
    return ["".join(chance.choices(parts, k=chance.randint(1, 9))) for _ in range(count)]


def read_rows(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def make_task(name, folder, fewshot):
    """lm-eval's task with rows of this repository."""
    if name == "gsm8k":
        config = load_yaml(manager.task_index[name].yaml_path)
        files = {"test": rows_folder / "gsm8k.jsonl", "train": rows_folder / "gsm8k_train.jsonl"}
    else:
        config = yaml.safe_load(open(own_folder / f"{name}.yaml", encoding="utf-8"))
        files = {"test": own_folder / config.pop("rows")}
        if "fewshot_rows" in config:
            files["train"] = own_folder / config.pop("fewshot_rows")
    config.pop("tag", None)
    config |= {
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in files.items()}, "cache_dir": folder},
        "training_split": None,
        "test_split": "test",
        "fewshot_split": "train" if "train" in files else "test",
    }
    if fewshot is not None:
        config["num_fewshot"] = fewshot
    task = ConfigurableTask(config=config)
    task.set_fewshot_seed(seed=1234)
    return task


def prompts(name, folder, model, style, fewshot):
    task = make_task(name, folder, fewshot)
    chat = style.get("chat")
    model.tokenizer.chat_template = chat
    task.build_all_requests(
        limit=4,
        system_instruction=style.get("system_instruction"),
        apply_chat_template=chat is not None,
        fewshot_as_multiturn=style.get("fewshot_as_multiturn", chat is not None),
        chat_template=model.apply_chat_template if chat else None,
        tokenizer_name="" if chat is None else str(hash(chat)),
    )
    return {**style, "task": name, "fewshot": fewshot, "prompts": [instance.args[0] for instance in task.instances]}


def judged(name, folder, answers):
    """What the task's filters make of each answer to its first rows, and the score."""
    task = make_task(name, folder, 0)
    task.build_all_requests(limit=4)
    cases = []
    for row, instance in enumerate(task.instances):
        for answer in answers:
            instance.resps = [answer]
            for ensemble in task._filters:
                ensemble.apply([instance])
            filtered = dict(instance.filtered_resps)
            scores = {}
            for filter_name, result in filtered.items():
                try:
                    scores[filter_name] = float(task.process_results(instance.doc, [result])["exact_match"])
                except TypeError:
                    scores[filter_name] = 0.0  # lm-eval fails on what `map` does not know.
            cases.append([row, answer, filtered, scores])
    return {"task": name, "cases": cases}


def generated(name, folder, model, fewshot, limit):
    task = make_task(name, folder, fewshot)
    results = lm_eval.simple_evaluate(model=model, tasks=[task], limit=limit, task_manager=manager)
    samples = {sample["doc_id"]: sample["resps"][0][0] for sample in results["samples"][task.config.task]}
    metrics = {
        key: value
        for key, value in results["results"][task.config.task].items()
        if key.startswith("exact_match") and isinstance(value, float)
    }
    texts = [samples[at] for at in sorted(samples)]
    return {"task": name, "fewshot": fewshot, "limit": limit, "texts": texts, "metrics": metrics}


arguments = argparse.ArgumentParser()
arguments.add_argument("model")
arguments.add_argument("out")
given = arguments.parse_args()
manager = TaskManager()
model = HFLM(pretrained=given.model, dtype="float32", device="cpu", batch_size=1)
own = sorted(path.stem for path in own_folder.glob("*.yaml"))
answers = BY_HAND + random_answers(60)
with tempfile.TemporaryDirectory() as folder:
    made = {
        "prompts": [prompts("gsm8k", folder, model, style, None) for style in STYLES]
        + [prompts(name, folder, model, style, 2) for name in own for style in STYLES[::4]],
        "judged": [judged(name, folder, answers) for name in ["gsm8k", *own]],
    }
    model.tokenizer.chat_template = None
    made["generated"] = [
        generated("gsm8k", folder, model, 1, 2),
        *[generated(name, folder, model, 1, None) for name in own],
    ]
versions = {name: version(name) for name in ("lm-eval", "transformers", "torch")}
with open(given.out, "w", encoding="utf-8") as file:
    json.dump({"versions": versions, **made}, file, ensure_ascii=False, separators=(",", ":"))
    file.write("\n")
