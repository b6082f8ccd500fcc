"""What Python's json module makes of texts that only it reads, or that JavaScript would spell otherwise.

    python python_json.py > ../data/pythonJson.json

Each entry: the text; its leaves as Python reads them ([path, kind, value], numbers as float.hex() so that no digit is lost,
strings as code units); and the value as json.dumps writes it, which reading and writing again must not change.
Texts that Python refuses have "refused": true.
"""
import json
import sys

texts = [
    '{"time_step_limit": [0.0, Infinity], "x": NaN, "y": -Infinity}',
    '{"NaN": "NaN", "a": "say \\"Infinity\\" and -Infinity", "b": NaN}',
    "[NaN,Infinity,-Infinity,1e400,-1e400,1e-400]",
    '{"n": 123456789012345678901234567890, "m": -9007199254740993, "big": 1000000000000000019884624838656}',
    '{"a": 1, "b": 2, "a": 3}',
    '{"a": {"x": NaN}, "a": {"x": 30.0}}',
    '["\\ud800", "\\udc00 alone", "\\ud83d\\ude00", "\\u0000"]',
    '{"cap": 30.0, "eps": 1e-05, "EPS": 1E-5, "zero": -0.0, "int": -0, "large": 1e22, "third": 0.1}',
    '{"__proto__": {"a": NaN}, "constructor": Infinity}',
    "NaN",
    '"Infinity"',
    "{}",
    '{"a": nan}',
    '{"a": +Infinity}',
    '{"a": -NaN}',
    '{"a": Infinity1}',
    '{"a": NaN,}',
    '{"a": infinity}',
    '{NaN: 1}',
]


def leaves(value, path=""):
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{path}/{key}")]
    if isinstance(value, list):
        return [leaf for key, inner in enumerate(value) for leaf in leaves(inner, f"{path}/{key}")]
    if isinstance(value, str):
        units = value.encode("utf-16-le", "surrogatepass")
        return [[path, "string", [int.from_bytes(units[i : i + 2], "little") for i in range(0, len(units), 2)]]]
    return [[path, "number", float(value).hex()]]


def entry(text):
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {"text": text, "refused": True}
    surrogate = "\\ud800" in text
    return {"text": text, "leaves": leaves(value), **({} if surrogate else {"dumped": json.dumps(value, indent=2, ensure_ascii=False)})}


json.dump([entry(text) for text in texts], sys.stdout, indent=1)
print()
