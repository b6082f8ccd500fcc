"""Renders chat templates as transformers does: the same Jinja, with the same settings, filters and globals."""

import json
import random
from datetime import datetime
from functools import lru_cache

import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from strftime import strftime

# The date and time of the render in progress.
now = datetime.min


class Generation(jinja2.ext.Extension):
    """{% generation %}...{% endgeneration %} marks the assistant's words for training; it renders what it encloses."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("enclosed"), [], [], body).set_lineno(line)

    @jinja2.pass_eval_context
    def enclosed(self, context, caller):
        return caller()


class PublicNamespace(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        values = dict(*args, **kwargs)
        for name in values:
            PublicNamespace._check(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name, value):
        PublicNamespace._check(name)
        Namespace.__setitem__(self, name, value)

    @staticmethod
    def _check(name):
        if isinstance(name, str) and name.startswith("_"):
            raise SecurityError(f"a namespace of a chat template cannot hold {name!r}: it begins with an underscore")


class Dict:
    """What a template may do with `dict`: call it, and dict.fromkeys."""

    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)

    def fromkeys(self, *args, **kwargs):
        return dict.fromkeys(*args, **kwargs)


def raise_exception(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def strftime_now(format):
    return strftime(now, format)


environment = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
)
environment.filters["tojson"] = tojson
environment.globals.update(
    raise_exception=raise_exception, strftime_now=strftime_now, dict=Dict(), namespace=PublicNamespace
)

compiled = lru_cache(maxsize=8)(environment.from_string)


def as_given_to_templates(message):
    """A turn without null fields, and with its reasoning under the names that templates read."""
    if not isinstance(message, dict):
        raise TypeError("a message is not an object")
    message = {key: value for key, value in message.items() if value is not None}
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((message[name] for name in names if name in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def render(source, fields, date):
    """Renders a template. `fields`: messages, tools, documents, add_generation_prompt, and the special tokens."""
    global now
    template = compiled(source)
    now = datetime.fromisoformat(date)
    # The filter `random` chooses the same in every run.
    random.seed(0)
    if not fields["messages"]:
        raise ValueError("a conversation needs at least one message")
    for name in ("tools", "documents"):
        if not all(isinstance(value, dict) for value in fields[name] or []):
            raise TypeError(f"{name} are not all objects")
    messages = [as_given_to_templates(message) for message in fields["messages"]]
    return template.render({**fields, "messages": messages})
