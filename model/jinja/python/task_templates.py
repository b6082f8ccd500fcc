"""Evaluates the templates of task files as lm-eval does."""

import ast
import re
from functools import lru_cache

from jinja2 import StrictUndefined, nodes
from jinja2.exceptions import TemplateSyntaxError
from jinja2.sandbox import SandboxedEnvironment


def regex_replace(string, pattern, repl, count=0):
    return re.sub(pattern, repl, string, count=count)


environment = SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
environment.filters["regex_replace"] = regex_replace
environment.globals.update(regex_replace=regex_replace, literal_eval=ast.literal_eval)

compiled = lru_cache(maxsize=256)(environment.from_string)


@lru_cache(maxsize=256)
def compiled_expression(source):
    """A template that sets `result` to the only expression {{...}} of `source`; None where there is more."""
    body = environment.parse(source).body
    outputs = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    if len(outputs) != 1 or isinstance(outputs[0], nodes.TemplateData):
        return None
    result = nodes.Assign(nodes.Name("result", "store"), outputs[0], lineno=1)
    return environment.from_string(nodes.Template([result], lineno=1))


def value(source, row):
    """The value of a single expression, else the text of the template."""
    expression = compiled_expression(source)
    if expression is None:
        return compiled(source).render(row)
    context = expression.new_context(row)
    for _ in expression.root_render_func(context):
        pass
    result = context.vars["result"]
    if isinstance(result, StrictUndefined):
        str(result)  # Raises what is missing.
    return result


def text_or_list(source, row):
    result = value(source, row)
    return list(result) if isinstance(result, (list, tuple)) else compiled(source).render(row)


def check(sources):
    """What is wrong with each template; None where nothing is."""

    def problem(source):
        try:
            compiled(source)
        except TemplateSyntaxError as error:
            return f"{error.message} (line {error.lineno})"

    return [problem(source) for source in sources]


def outcome(evaluate, source, row):
    try:
        return {"value": evaluate(source, row)}
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        return {"error": str(error) or type(error).__name__}


def derive(rows, fields):
    """Evaluates [name, template] pairs in order for each row, each with what the ones before it gave."""
    answers = []
    for row in rows:
        row, derived = dict(row), {}
        for name, source in fields:
            derived[name] = outcome(value, source, row)
            if "error" in derived[name]:
                break
            row[name] = derived[name]["value"]
        answers.append(derived)
    return answers


def evaluate(rows, templates):
    """Evaluates templates by name for each row: a list stays a list, anything else is printed."""
    return [{name: outcome(text_or_list, source, row) for name, source in templates.items()} for row in rows]
