"""Judges generated answers as lm-eval does: filters, then exact match; and draws few-shot examples as it does."""

import ast
import random
import re
import string

INVALID = "[invalid]"


def regex(answer, regex_pattern, group_select=0, fallback=INVALID):
    found = re.findall(regex_pattern, answer)
    if not -len(found) <= group_select < len(found):
        return fallback
    match = found[group_select]
    if isinstance(match, tuple):
        match = next((group for group in match if group), fallback)
    return match.strip()


STEPS = {
    "regex": regex,
    "remove_whitespace": str.strip,
    "lowercase": str.lower,
    "uppercase": str.upper,
    "map": lambda answer, mapping_dict=None, default_value=None: (mapping_dict or {}).get(answer, default_value),
}


def filtered(answer, steps):
    for step in steps:
        # An answer that `map` does not know is None, which no later step can read.
        if answer is None:
            return None
        answer = STEPS[step["function"]](answer, **{name: value for name, value in step.items() if name != "function"})
    return answer


def normalised(text, regexes_to_ignore=None, ignore_case=False, ignore_punctuation=False, ignore_numbers=False):
    for pattern in regexes_to_ignore or []:
        text = re.sub(pattern, "", text)
    if ignore_case:
        text = text.lower()
    dropped = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")
    # numpy, with which lm-eval compares, takes zeros at the end of a text for its padding.
    return text.translate(str.maketrans("", "", dropped)).rstrip("\0")


def judge(rows, filters, exact_match):
    """By row and filter the filtered answer, and whether it is one of the row's targets."""

    def one(answer, targets, steps):
        answer = filtered(answer, steps)
        right = answer is not None and normalised(str(answer), **exact_match) in [
            normalised(str(target), **exact_match) for target in targets
        ]
        return [None if answer is None else str(answer), right]

    return [{name: one(row["answer"], row["targets"], steps) for name, steps in filters.items()} for row in rows]


def literals(texts):
    """Texts in brackets as the lists that they spell, where they spell one."""

    def one(text):
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return None
        return [str(item) for item in value] if isinstance(value, list) else None

    return [one(text) for text in texts]


def check_patterns(patterns):
    """What is wrong with each regular expression; None where nothing is."""

    def problem(pattern):
        try:
            re.compile(pattern)
        except re.error as error:
            return str(error)

    return [problem(pattern) for pattern in patterns]


def draw(size, shots, own, seed):
    """Indices of examples for one row after the other, from `size` examples.

    own: for each row, which examples equal it and must not be drawn; None where the examples are other rows.
    """
    generator, pool = random.Random(seed), range(size)

    def one(equal):
        if equal is None:
            return generator.sample(pool, shots)
        chosen = [i for i in generator.sample(pool, shots + 1) if i not in equal][:shots]
        if len(chosen) == shots:
            return chosen
        return generator.sample([i for i in pool if i not in equal], shots)

    return [one(equal) for equal in own]
