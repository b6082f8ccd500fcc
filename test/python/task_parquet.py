"""Writes some of the rows of test/data/tasks as parquet, in the column types in which the Hugging Face hub has them.

    python task_parquet.py          (needs pyarrow)
"""
import json
from pathlib import Path

import pyarrow
from pyarrow import parquet

folder = Path(__file__).parents[1] / "data" / "tasks"
texts = pyarrow.list_(pyarrow.string())
types = {
    "arc_easy": {"id": None, "question": None, "choices": pyarrow.struct({"text": texts, "label": texts}), "answerKey": None},
    "mmlu": {"question": None, "subject": None, "choices": texts, "answer": pyarrow.int64()},
    "c3": {"id": pyarrow.int32(), "context": texts, "question": None, "choice": texts, "answer": None},
    "gsm8k": {"question": None, "answer": None},
}
for name, columns in types.items():
    rows = [json.loads(line) for line in open(folder / f"{name}.jsonl", encoding="utf-8")]
    schema = pyarrow.schema({column: kind or pyarrow.string() for column, kind in columns.items()})
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), folder / "parquet" / f"{name}.parquet", compression="snappy")
