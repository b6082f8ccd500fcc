"""What the worker thread calls: one request in JSON, one answer in JSON."""

import json
import sys

from jinja2.exceptions import TemplateSyntaxError

import chat_templates
import task_answers
import task_templates

# A text of more characters is of no use to anybody.
LONGEST = 2**24

LONGEST_MESSAGE = 1000

KINDS = {
    "chat": chat_templates.render,
    "check tasks": task_templates.check,
    "derive fields": task_templates.derive,
    "evaluate tasks": task_templates.evaluate,
    "check patterns": task_answers.check_patterns,
    "draw examples": task_answers.draw,
    "judge answers": task_answers.judge,
    "read lists": task_answers.literals,
}

# Python must not reach JavaScript, should a template ever break out of Jinja's sandbox.
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "JsFinder"]
for name in [name for name in sys.modules if name.split(".")[0] in ("js", "pyodide_js")]:
    del sys.modules[name]


def template_line(error):
    """The template's line at which an error arose; Jinja gives its own frames this name."""
    line, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == "<template>":
            line = at.tb_lineno
        at = at.tb_next
    return line


def answer(request):
    try:
        request = json.loads(request)
        result = KINDS[request.pop("kind")](**request)
        if isinstance(result, str) and len(result) > LONGEST:
            raise MemoryError
        # NaN is no JSON for the one who asks.
        return json.dumps({"result": result}, allow_nan=False)
    except TemplateSyntaxError as error:
        failure = {"reason": "syntax", "message": error.message, "line": error.lineno}
    except (MemoryError, RecursionError) as error:
        reason = "memory" if isinstance(error, MemoryError) else "recursion"
        failure = {"reason": reason, "message": "", "line": template_line(error)}
    except Exception as error:
        message = str(error) or type(error).__name__
        failure = {"reason": "render", "message": message[:LONGEST_MESSAGE], "line": template_line(error)}
    return json.dumps(failure)
