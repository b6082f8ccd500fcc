"""Writes test/data/chatTemplates.json: templates, conversations, and what transformers renders of them, or that it refuses.

  python test/python/make_chat_templates.py [OUT [FOLDER]]

FOLDER: one with *.jinja files, which are rendered instead of the templates below.
"""

import datetime
import json
import sys
from pathlib import Path

import transformers
import transformers.utils.chat_template_utils as utils
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

NOW = datetime.datetime(2024, 7, 6, 15, 4, 5)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


utils.datetime = Clock

CALL = {"type": "function", "id": "c1", "function": {"name": "weather", "arguments": {"city": "Oslo", "n": 1.0, "é": [None, True]}}}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather in a 'city' <now> & \"later\"\n",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["Oslo", "Köln"]}, "n": {"type": ["number", "null"], "default": 0.10}}, "required": ["city"]}}}
CONVERSATIONS = {
    "short": {"messages": [{"role": "user", "content": "Hi"}]},
    "turns": {"messages": [
        {"role": "system", "content": " Be brief.\n"},
        {"role": "user", "content": "  the first 'one' & \"two\".\n\n"},
        {"role": "assistant", "content": "<think>\nx</think>\n\n    it's \U0001f600 é ß ŉ..  "},
        {"role": "user", "content": "\tthird\u00a0$& \\n {{ x }}"},
    ]},
    "tools": {"messages": [
        {"role": "user", "content": "Is it cold?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "-1", "name": "weather", "tool_call_id": "c1"},
        {"role": "assistant", "content": "Yes", "reasoning_content": "because"},
    ], "tools": [TOOL]},
    "documents": {"messages": [{"role": "user", "content": "Q"}], "documents": [{"title": "T", "text": "a\nb"}], "add_generation_prompt": True},
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}, {"type": "text", "text": "there"}]},
                           {"role": "assistant", "content": [{"type": "text", "text": "ok"}], "thinking": "hm"}], "add_generation_prompt": True},
    "values": {"messages": [{"role": "user", "content": "x", "n": 3, "f": 2.0, "big": 12345678901234567890, "e": 1e16, "small": 1e-7, "third": 0.1,
               "neg": -7, "none": None, "yes": True, "list": [3, 1.5, "b", None, [True]], "dict": {"b": 1, "a": "é'", "items": 5, "none": None},
               "words": ["Beta", "alpha", "Ångström", "10", "9"], "people": [{"name": "Bo", "age": 30}, {"name": "al", "age": 25}, {"name": "Cy", "age": 30}],
               "text": "The quick brown fox_jumps over the LAZY dog. İstanbul ǆ ﬁ", "html": "<b>\"a\" & 'b'</b>", "url": "see http://a.bc/d?e=f&g=h or me@a.bc"}],},
}
# Each is tried on all conversations, or on "values" where it begins with an expression on m, the message.
STYLES = {
    "chatml": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "alternating": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "header": "{{- bos_token }}\n{%- if custom_tools is defined %}\n    {%- set tools = custom_tools %}\n{%- endif %}\n{%- if not tools_in_user_message is defined %}\n    {%- set tools_in_user_message = true %}\n{%- endif %}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now(\"%d %b %Y\") %}\n    {%- else %}\n        {%- set date_string = \"26 Jul 2024\" %}\n    {%- endif %}\n{%- endif %}\n{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{%- if tools is not none %}\n    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{%- if tools is not none and not tools_in_user_message %}\n    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n        {{- \"\\n\\n\" }}\n    {%- endfor %}\n{%- endif %}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- for message in messages %}\n    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n    {%- elif 'tool_calls' in message %}\n        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception(\"This model only supports single tool-calls at once!\") }}\n        {%- endif %}\n        {%- set tool_call = message.tool_calls[0].function %}\n        {{- '{\"name\": \"' + tool_call.name + '\", \"parameters\": ' }}\n        {{- tool_call.arguments | tojson }}\n        {{- \"}\" }}\n    {%- else %}\n        {%- if message.content is mapping or message.content is iterable %}\n            {{- message.content | tojson }}\n        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "thinking": "{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}\n{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n    {%- if ns.multi_step_tool and message.role == \"user\" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\n        {%- set ns.multi_step_tool = false %}\n        {%- set ns.last_query_index = index %}\n    {%- endif %}\n{%- endfor %}\n{{ ns.last_query_index }}\n{%- for message in messages %}\n    {%- set content = message.content if message.content is string else '' %}\n    {%- set reasoning_content = '' %}\n    {%- if message.reasoning_content is string %}\n        {%- set reasoning_content = message.reasoning_content %}\n    {%- elif '</think>' in content %}\n        {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n        {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n    {%- endif %}\n    {{- '<|im_start|>' + message.role + '\\n' }}{% if reasoning_content %}{{ '<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' }}{% endif %}{{ content }}\n{%- endfor %}\n{%- if enable_thinking is defined and enable_thinking is false %}\n    {{- '<think>\\n\\n</think>\\n\\n' }}\n{%- endif %}",
    "macro": "{%- macro render_tool(tool, indent=0) -%}\n{{ ' ' * indent }}{{ tool.function.name }}: {{ tool.function.description|trim }}\n{%- for key, value in tool.function.parameters.properties.items() %}\n  {{ key }}={{ value.type }}{{ ' required' if key in tool.function.parameters.required }}\n{%- endfor %}\n{%- endmacro %}\n{% if tools %}{% for tool in tools %}{{ render_tool(tool, indent=2) }}{% endfor %}{% endif %}{{ messages|length }}",
    "typescript": "{%- macro type_of(spec) -%}{%- if spec.type == 'string' -%}{%- if spec.enum -%}{{ '\"' + spec.enum|join('\" | \"') + '\"' }}{%- else -%}string{%- endif -%}{%- elif spec.type is iterable and spec.type is not string -%}{{ spec.type|join(' | ') }}{%- else -%}any{%- endif -%}{%- if spec.default is defined -%}{{ ' // default: ' ~ spec.default }}{%- endif -%}{%- endmacro -%}\n{% for tool in tools or [] %}{% for name, spec in tool.function.parameters.properties|dictsort %}{{ name }}: {{ type_of(spec) }},\n{% endfor %}{% endfor %}",
    "blocks": "{% for m in messages %}\n    {% if m.role == 'user' %}\n    U:{{ m.content }}\n    {% else %}\n    A:{{ m.content }}\n    {% endif %}\n{% endfor %}\n",
    "blocks-crlf": "{% for m in messages %}\r\n    {% if m.role == 'user' %}\r\n    U:{{ m.content }}\r\n    {% endif %}\r\n{% endfor %}\r\nend\r\n",
    "control": "a\n  {%- if true -%}\n  b\n  {%- endif %}\n  {%+ if true %}\n c {% endif +%}\n  {#- comment -#}\n d\n\n{# another #}\n{{- ' e ' -}}\n f\n{% raw %}{{ raw }} {% x %}\n{% endraw %}\n{%- raw -%}  {{ y }}  {%- endraw -%}  z \n\n",
    "set-block": "{% set x %}{% for m in messages %}{{ m.role }}\n{% endfor %}{% endset %}{{ x | upper }}{{ x|length }}{% set y | replace('a', 'b') %}banana{% endset %}{{ y }}",
    "filter-block": "{% filter upper %}{% for m in messages %}{{ m.role }},{% endfor %}{% endfilter %}{% filter replace('a','e') | trim %} banana {% endfilter %}",
    "call-block": "{% macro wrap(kind) %}<{{ kind }}>{{ caller('x') }}</{{ kind }}>{% endmacro %}{% for m in messages %}{% call(arg) wrap(m.role) %}{{ arg }}{{ loop is defined }}{% endcall %}{% endfor %}",
    "macro-arguments": "{% macro f(a, b=2, c=a) %}{{ a }},{{ b }},{{ c }},{{ varargs }},{{ kwargs }}{% endmacro %}{{ f(1) }}|{{ f(1, 3, 4, 5) }}|{{ f(b=0, a=9, z=1) }}|{{ f() }}|{{ f.name }}{{ f.arguments }}{{ f.catch_kwargs }}",
    "recursion": "{% macro tree(x) %}{% if x is mapping %}{ {%- for k, v in x.items() %}{{ k }}:{{ tree(v) }} {% endfor -%} }{% elif x is iterable and x is not string %}[{% for v in x %}{{ tree(v) }},{% endfor %}]{% else %}{{ x }}{% endif %}{% endmacro %}{{ tree(messages) }}",
    "loop-recursive": "{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ loop.depth }}{{ x }}{% endif %}{% endfor %}",
    "loop-variables": "{% for m in messages %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.changed(m.role) }}{{ loop.previtem.role if loop.previtem is defined else '-' }}{{ loop.nextitem.role if loop.nextitem is defined else '-' }};{% else %}none{% endfor %}{% for x in [] %}{% else %}empty{% endfor %}",
    "loop-filter": "{% for m in messages if m.role != 'user' %}{{ loop.index }}{{ m.role }}{% else %}nobody{% endfor %}{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% endfor %}{% for k in {'x': 1, 'y': 2} %}{{ k }}{% endfor %}{% for c in 'añb' %}{{ c }}.{% endfor %}",
    "break": "{% for m in messages %}{{ m.role }}{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}|{% for m in messages %}{% if m.role == 'user' %}{% continue %}{% endif %}{{ m.role }}{% endfor %}",
    "scope": "{% set x = 1 %}{% for m in messages %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% with y = 3, z = x %}{{ y }}{{ z }}{% endwith %}{{ y is defined }}{% for i in [1, 2] %}{% set q = i %}{% endfor %}{{ q is defined }}",
    "namespace": "{% set ns = namespace(a=1, b=[]) %}{% for m in messages %}{% set ns.a = ns.a * 2 %}{% set ns.b = ns.b + [m.role] %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ namespace({'k': 2}).k }}",
    "namespace-underscore": "{% set ns = namespace(_a=1) %}{{ ns._a }}",
    "append": "{% set l = [] %}{% for m in messages %}{% if l.append(m.role) %}{% endif %}{% endfor %}{{ l }}",
    "do": "{% do messages %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}\n{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}",
    "fields": "{{ tools is none }}{{ tools is defined }}{{ documents is none }}{{ documents is defined }}{{ add_generation_prompt }}{{ continue_final_message is defined }}{{ enable_thinking is defined }}{{ bos_token }}{{ eos_token is defined }}{{ pad_token is defined }}{{ unk_token }}|{{ nothing }}|",
    "undefined-attribute": "{{ messages[0].nothing }}|{{ messages[9] is defined }}|{{ messages[0]['nothing'] is none }}|{{ messages[0].nothing or 'x' }}|{% if not messages[0].nothing %}no{% endif %}|{% for x in nothing %}{{ x }}{% endfor %}|{{ nothing|length }}|{{ nothing|list }}|{{ nothing == none }}",
    "undefined-below": "{{ nothing.further }}",
    "undefined-plus": "{{ 'a' + nothing }}",
    "undefined-call": "{{ nothing() }}",
    "undefined-filter": "{{ 'a' | nothing }}",
    "undefined-test": "{{ 'a' is nothing }}",
    "messages": "{{ messages }}",
    "messages-json": "{{ messages | tojson }}\n{{ messages | tojson(indent=2) }}\n{{ tools | tojson(ensure_ascii=True, separators=(',', ':'), sort_keys=True) }}",
    "contents": "{% for m in messages %}{{ m.content }}|{{ m['content'] }}|{{ m.get('content', 'none') }}|{{ m.get('x') }}|{{ 'content' in m }}{% endfor %}",
    "content-parts": "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% elif p['type'] == 'image' %}<image>{% endif %}{% endfor %}{% endif %}{% endfor %}",
    "documents": "{% for d in documents %}{{ loop.index0 }}: {{ d.title }} {{ d['text']|replace('\\n', ' ') }}{% endfor %}",
    "selectattr": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ messages | selectattr('tool_calls', 'defined') | list | length }}{{ messages | rejectattr('role', 'in', ['user', 'system']) | map(attribute='role') | join(', ') }}{{ (messages | map(attribute='content') | select('string') | first) }}{{ messages|map(attribute='role')|unique|list }}",
    "last-user": "{% set users = messages | selectattr('role', 'equalto', 'user') | list %}{{ users[-1].content if users else 'none' }}{{ messages[-1]['role'] }}{{ messages[:-1]|length }}{{ (messages|last).role }}",
    "reasoning": "{% for m in messages %}{{ m.reasoning_content }}/{{ m.thinking }}/{{ m.reasoning }}/{{ m.keys()|list }};{% endfor %}",
    "calls": "{% for m in messages %}{% for c in m.tool_calls or [] %}{{ c.function.name }} {{ c.function.arguments }} {{ c.function.arguments|tojson }} {{ c.function.arguments|items|list }}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }}{% endfor %}{% endfor %}{% endfor %}",
    "raise": "{% if messages|length > 1 %}{{ raise_exception('only one, not ' ~ messages|length) }}{% endif %}ok",
    "import": "{% import 'x' as y %}",
    "include": "{% include 'x' %}",
    "extends": "{% extends 'x' %}",
    "block": "{% block a %}x{{ super is defined }}{% endblock %}{{ self.a() }}",
    "autoescape": "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "syntax": "{% if %}",
    "unclosed": "a {{ b",
    "unknown-tag": "{% foo %}",
    "sandbox": "{{ ''.__class__.__mro__ }}",
    "sandbox-format": "{{ '{0.__class__}'.format('') }}",
    "immutable": "{% set x = {'a': 1} %}{{ x.update({'b': 2}) }}{{ x }}",
    "range": "{{ range(3)|list }}{{ range(1, 7, 2)|list }}{{ range(5, 0, -2)|list }}{{ range(100001)|list|length }}",
    "dict": "{{ dict(a=1, **{'b': 2}) }}{{ dict([('x', 1)]) }}{{ dict.fromkeys(['a']) }}",
    "globals": "{{ joiner is defined }}{{ cycler('a', 'b').next() }}{% set j = joiner(', ') %}{{ j() }}x{{ j() }}y{{ lipsum is defined }}",
    "dates": "{% for f in 'aAbBcCdDeFgGhHIjklmMnpPrRSTtuUVwWxXyYzZ%' %}{{ f }}={{ strftime_now('%' + f) }};{% endfor %}{{ strftime_now('%-d %-m %_d %-H %-I %-j %-y %^a %i %o %v') }}{{ strftime_now('Heute é %d.%m.%Y') }}",
}
STRINGS = ["upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "strip('Tg ﬁ')", "lstrip('The ')", "rstrip('ﬁ ')",
    "split()", "split(' ')", "split('o', 1)", "split(None, 2)", "rsplit(' ', 1)", "rsplit()", "splitlines()", "partition('fox')", "rpartition('o')",
    "replace('o', '$&')", "replace('o', '0', 1)", "replace('', '-')", "startswith('The')", "startswith(('a', 'T'))", "startswith('quick', 4)", "endswith('dog')",
    "find('fox')", "find('zz')", "rfind('o')", "index('fox')", "index('zz')", "count('o')", "count('')", "isdigit()", "isalpha()", "isalnum()", "isupper()", "islower()", "isspace()",
    "istitle()", "isnumeric()", "isdecimal()", "isidentifier()", "isascii()", "isprintable()", "zfill(80)", "center(70, '*')", "ljust(70, '.')", "rjust(70)", "expandtabs(2)",
    "encode('utf-8')", "encode()", "join(['a', 'b'])", "join([1])", "format('a')", "format_map({})", "removeprefix('The ')", "removesuffix('ﬁ')", "translate({84: 'X'})", "maketrans('a', 'b')",
    "nothing()", "__len__()", "length"]
LISTS = ["list[0]", "list[-1]", "list[1:]", "list[:-1]", "list[::-1]", "list[::2]", "list[1:4:2]", "list[9:]", "list|length", "list + [1]", "list * 2", "list.index('b')", "list.index(9)", "list.count(3)",
    "list.append(1)", "list.pop()", "list.copy()", "words|sort", "words|sort(case_sensitive=true)", "words|sort(reverse=true)", "words|join(', ')", "words|first", "words|last", "words|reverse|list", "words|batch(2)|list", "words|batch(2, 'x')|list",
    "words|slice(2)|list", "words|map('upper')|list", "words|map('replace', 'a', 'b')|list", "words|map('length')|sum", "words|select('in', ['10'])|list", "words|reject('equalto', '10')|list", "words|max", "words|min", "words|unique|list", "words|random in words",
    "list|tojson", "list|string", "list|sort", "list|sum", "[1, 2.5]|sum", "[[1], [2]]|sum(start=[])", "people|sort(attribute='age')|map(attribute='name')|list", "people|sort(attribute='age,name', reverse=true)|map(attribute='name')|list",
    "people|groupby('age')", "people|groupby('age')|map('first')|list", "people|map(attribute='age')|sum", "people|sum(attribute='age')", "people|map(attribute='nothing', default=0)|list", "people|map(attribute='name')|map('lower')|join", "people|selectattr('age', 'gt', 26)|list",
    "people|rejectattr('age', 'eq', 30)|list", "people|max(attribute='age')", "people|min(attribute='name')", "list is iterable", "list is sequence", "list is mapping", "3 in list", "'b' not in list", "[1, 2] < [1, 3]", "[1] == [1.0]", "(1, 'a')", "(1,)", "()", "[]", "{}", "list[5]", "list['a']", "list|list == list", "list|first|string", "words|join('-', 1)", "people|join(', ', attribute='name')", "'abc'|list", "'abc'|reverse", "words|xmlattr"]
DICTS = ["dict", "dict.a", "dict['a']", "dict.items", "dict['items']", "dict.keys()", "dict.values()|list", "dict.items()|list", "dict|items|list", "dict|dictsort", "dict|dictsort(true, 'value')", "dict|dictsort(reverse=true)", "dict|length", "dict|list", "dict|first", "'a' in dict", "dict.get('z', 1)", "dict.get('z')",
    "dict.none", "dict.pop('a')", "dict.copy()", "dict|tojson(indent=1)", "dict|tojson(sort_keys=true)", "dict|string", "{'a': 1, 2: 'x', none: true, 1.5: []}", "{'a': 1, 2: 'x', none: true, 1.5: []}|tojson", "{1: 2}.items()|list", "dict == {'b': 1}", "dict is mapping", "dict|attr('a')", "dict.b|default(0)", "dict.z|default('d')", "dict.none|default('d')", "dict.none|default('d', true)", "dict|join(',')", "dict|map('upper')|list", "dict|sort", "dict|urlencode", "dict|xmlattr", "dict|pprint", "dict.setdefault('a')"]
NUMBERS = ["n", "f", "big", "e", "small", "third", "neg", "none", "yes", "n + f", "n / 2", "4 / 2", "n // 2", "neg // 2", "neg % 3", "neg / 2", "7.5 // 2", "-7.5 % 2", "2 ** 10", "2 ** -1", "2 ** 0.5", "2 ** 100", "n * 'ab'", "n + '1'", "1 / 0", "1 // 0", "n == 3.0", "yes + 1", "yes == 1", "n < 'a'", "1 < 2 < 3", "3 > 2 > 2", "not n", "n and 'x'", "none or 'y'", "n ~ f ~ none ~ yes", "-n", "+n", "- neg",
    "f|int", "third|round(2)", "2.5|round", "3.5|round", "2.567|round(1, 'floor')", "2.51|round(0, 'ceil')", "n|float", "'3.7'|int", "'x'|int", "'x'|int(5)", "'0x1f'|int(base=16)", "'1e3'|float", "'nan'|float", "neg|abs", "n|string", "n|tojson", "f|tojson", "e|tojson", "1e400", "1_000", "0x1f", "1.0e3", "10|filesizeformat", "1234567|filesizeformat(true)", "n is number", "n is integer", "f is float", "yes is boolean", "yes is number", "none is none", "n is odd", "n is divisibleby 3", "n is even", "n is defined", "n is string", "n is callable", "n is sameas 3", "n is in [3]", "n is eq 3", "n is ne 3", "n is lt 4", "n is ge 3", "'a' is lower", "'A' is upper", "'x' is escaped", "'upper' is filter", "'odd' is test", "n.bit_length()", "f.is_integer()", "n.real", "n if n > 5", "(n if n > 5) is defined", "n if n > 5 else 'no'", "'%d %05.2f %s %r %%'|format(n, third, none, 'a')", "'%s' % 'a'", "'%(a)s' % {'a': n}", "'%s %s' % (n, f)", "'{} {:>5} {0!r}'.format(n)", "'{:>5}|{:.2f}|{:,}'.format(n, third, 1234567)", "'{a}'.format(a=yes)", "'{0[a]}'.format(dict)", "[1, 2, 3]|sum / 2", "9007199254740993", "0.1 + 0.2", "1e22", "1e21", "123456789.123456789", "5e-324", "100000000000000000.0", "-0.0", "1e15 + 0.5"]
FILTERS = ["text|upper", "text|lower", "text|title", "text|capitalize", "text|trim", "text|trim('T')", "text|length", "text|wordcount", "text|replace('o', 'x')", "text|replace('o', 'x', 2)", "text|truncate(20)", "text|truncate(20, true, '..')", "text|truncate(60, leeway=0)", "text|wordwrap(20)", "text|wordwrap(7, break_long_words=false)", "text|center(80)", "text|indent", "'a\\nb\\n\\nc'|indent(2, true)", "'a\\nb\\n\\nc'|indent('> ', blank=true)", "text|first", "text|last", "text[4:9]", "text[-1]", "text[::-1]", "text|list|length", "html|escape", "html|e|safe", "html|forceescape", "html|striptags", "html|safe", "html|tojson", "html|e ~ html", "url|urlize", "url|urlize(20, true)", "url|urlencode", "'a b/ü'|urlencode", "text|string", "text|reverse", "text|batch(9)|first", "text|default('x')", "nothing|default('x')", "nothing|d", "''|default('x', true)", "text|hash", "text|e|length", "'é' < 'z'", "'a' < 'B'", "'ab' * 3", "'a' 'b'", "'a\\tb\\x41\\u00e9\\n'", "\"it's\"", "'\"'", "'\\'' ~ 'b'", "text is string", "'quick' in text", "text|select('upper')|join", "text|unique|join", "text|map('lower')|join", "text|sort|join", "['é', 'e', 'z', 'a']|sort|join", "text|attr('upper')", "text|pprint", "[text]|pprint", "'ß'|upper", "'İ'|lower|length", "'ﬁ'|capitalize", "'ŉx'|title", "\"it's o'neill-smith x1y\"|title", "\"they're 2nd\".title()", "'\U0001f600'|length", "'a\U0001f600b'[1]", "'e\u0301'|length", "'Σας'|lower", "'ΣΑΣ'|lower", "'\\u2028a'.splitlines()", "'\\x85a'.strip()", "'\\ufeffa'.strip()", "'\\x1fa\\x1c'|trim", "'½'.isdigit()", "'½'.isnumeric()", "'²'.isdigit()", "'١'|int", "'abc'.center(8)", "'abcd'.center(7, '*')", "'a,b,,c'.split(',')", "''.split()", "''.split(',')", "' a  b '.split(' ')", "text|tojson", "'</script>'|tojson", "'\\u2028\\x7f\\x00'|tojson", "'é\U0001f600'|tojson(ensure_ascii=true)", "joiner()", "text|format", "'%s'|format", "('a', 'b')|join", "text.upper", "text|list|last|upper", "(text|upper)[0:3]", "text|upper|lower|title|trim|length", "text.split()|map('first')|join", "text.split(' ')[1:3]|join('+')", "loop", "varargs", "caller", "self", "namespace(a=1)", "true and false or true", "not true == false", "True", "None", "none", "true", "false|string", "none|string", "[none, true]|join", "none|int", "none|length", "none|list", "none|upper", "none ~ ''", "true|int", "true|tojson", "none|tojson", "nothing|tojson", "text|groupby('x')|list", "range(3)", "range(3)|tojson", "cycler", "lipsum(0)", "m|length", "m.keys()|list|length", "m|tojson(indent=2)", "m|tojson(indent='\\t', ensure_ascii=true)", "m", "m|string|length", "m|items|first", "messages|first == m"]


def cases():
    for name, template in STYLES.items():
        for conversation in CONVERSATIONS:
            if conversation != "values" or name in ("messages", "messages-json", "recursion", "contents", "thinking"):
                yield name, conversation, template
    for kind, expressions in {"text": [f"text.{e}" for e in STRINGS], "list": LISTS, "dict": DICTS, "number": NUMBERS, "filter": FILTERS}.items():
        for expression in expressions:
            yield kind, "values", "{% set m = messages[0] %}" + variables(expression) + "{{ " + expression + " }}"


def variables(expression):
    return "".join(f"{{% set {n} = m.{n} %}}" if n != "dict" else "{% set dict = m['dict'] %}" for n in CONVERSATIONS["values"]["messages"][0] if n in expression and n not in ("role", "content", "none"))


def folder_cases(folder):
    for path in sorted(Path(folder).glob("*.jinja")):
        for conversation in CONVERSATIONS:
            yield path.name, conversation, path.read_bytes().decode()


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1] / "data/chatTemplates.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), bos_token="<s>", eos_token="</s>")
    rendered = []
    for name, conversation, template in folder_cases(sys.argv[2]) if len(sys.argv) > 2 else cases():
        given = dict(CONVERSATIONS[conversation])
        try:
            text = tokenizer.apply_chat_template(given.pop("messages"), chat_template=template, tokenize=False, **given)
        except Exception as error:
            text = None
            if " at 0x" in str(error):
                raise
        if text is not None and " at 0x" in text:
            continue  # An address, which differs from run to run.
        rendered.append({"name": name, "conversation": conversation, "template": template, "text": text})
    lines = ",\n".join(json.dumps(case, ensure_ascii=True) for case in rendered)
    about = {"made by": f"test/python/make_chat_templates.py, transformers {transformers.__version__}", "now": NOW.isoformat(), "conversations": CONVERSATIONS}
    out.write_text(json.dumps(about, ensure_ascii=True)[:-1] + ', "cases": [\n' + lines + "\n]}\n")
    print(len(rendered), "cases,", sum(case["text"] is None for case in rendered), "refused")


main()
