"""Makes test/data/rows: rows of data sets, and what transformers renders of them; parquet files, and what pyarrow reads.

    python test/python/make_rows.py

Needs transformers, tokenizers and pyarrow. The rows of a .jsonl file are made into conversations by the few lines below,
which know nothing of rm-engine.
"""
import datetime
import decimal
import json
import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'data', 'rows')
os.makedirs(HERE, exist_ok=True)

TEMPLATE = (
    "{% if tools %}TOOLS {{ tools | tojson }}\n{% endif %}"
    "{% if documents %}DOCS {{ documents | tojson }}\n{% endif %}"
    "{% for m in messages %}<{{ m.role }}>{% if m.name %}({{ m.name }}){% endif %}"
    "{% if m.reasoning_content %}[{{ m.reasoning_content }}]{% endif %}"
    "{% if m.content is string %}{{ m.content }}{% elif m.content %}{% for p in m.content %}{{ p.text }};{% endfor %}{% endif %}"
    "{% for c in m.tool_calls or [] %}CALL {{ c.function.name }} {{ c.function.arguments | tojson }}{% endfor %}\n{% endfor %}"
)
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={'a': 0}, merges=[])))
tokenizer.chat_template = TEMPLATE


def call(**arguments):
    return [{'type': 'function', 'function': {'name': 'weather', 'arguments': arguments}}]


CALL = call(city='Oslo', n=1.0)
USER = {'role': 'user', 'content': 'hi'}
TOOLS = [{'type': 'function', 'function': {'name': 'weather', 'parameters': {'type': 'object', 'limit': 2.0, 'properties': {'city': {'type': 'string'}}}}}]
HUMAN = {'from': 'human', 'value': 'hi'}
ROWS = {
    'null content': {'messages': [USER, {'role': 'assistant', 'content': None, 'tool_calls': CALL}]},
    'no content': {'messages': [USER, {'role': 'assistant', 'tool_calls': CALL}]},
    'empty content': {'messages': [USER, {'role': 'assistant', 'content': '', 'tool_calls': CALL}]},
    'a tool answers': {'messages': [USER, {'role': 'tool', 'name': 'weather', 'content': 'cold'}]},
    'reasoning': {'messages': [USER, {'role': 'assistant', 'content': 'yes', 'reasoning_content': 'because'}]},
    'reasoning alone': {'messages': [USER, {'role': 'assistant', 'content': None, 'reasoning_content': 'because'}]},
    'parts': {'messages': [{'role': 'user', 'content': [{'type': 'text', 'text': 'a'}, {'type': 'text', 'text': 'b'}]}]},
    'tools': {'messages': [USER], 'tools': TOOLS},
    'tools as JSON text': {'messages': [USER], 'tools': json.dumps(TOOLS)},
    'tools null': {'messages': [USER], 'tools': None},
    'documents': {'messages': [USER], 'documents': [{'title': 't', 'text': 'x', 'score': 3.0}]},
    'numbers': {'messages': [USER, {'role': 'assistant', 'content': None, 'tool_calls': call(
        a=1, b=1.0, c=-0.0, d=1.5, e=1e16, f=1e-7, g=12345678901234567890, h=1e22, i=0.1, j=123456789.25, k=-3, l=2**53 + 1, m=1e300)}]},
    'not finite': {'messages': [USER, {'role': 'assistant', 'content': None, 'tool_calls': call(a=math.nan, b=math.inf, c=-math.inf)}]},
    'numbers in texts': {'messages': [{'role': 'user', 'content': '1.0 and "2.0"'}, {'role': 'assistant', 'content': 'NaN \\ 1e3'}]},
    'messages as JSON text': {'messages': json.dumps([USER, {'role': 'assistant', 'content': 'yes', 'tool_calls': CALL}])},
    'turns as JSON texts': {'messages': [json.dumps(USER), json.dumps({'role': 'assistant', 'content': 'yes'})]},
    'lists by field': {'messages': {'role': ['user', 'assistant'], 'content': ['hi', 'yes']}},
    'ShareGPT': {'conversations': [HUMAN, {'from': 'gpt', 'value': 'yes'}]},
    'ShareGPT as JSON text': {'conversations': json.dumps([HUMAN, {'from': 'gpt', 'value': 'yes'}])},
    'ShareGPT, lists by field': {'conversations': {'from': ['human', 'gpt'], 'value': ['hi', 'yes']}},
    'ShareGPT with a tool': {'conversations': [HUMAN, {'from': 'tool', 'value': 'cold', 'name': 'weather'}]},
    'system beside': {'system': 'be brief', 'conversations': [HUMAN, {'from': 'gpt', 'value': 'yes'}]},
    'system beside, empty': {'system': '', 'messages': [USER]},
    'system beside, again': {'system': 's', 'messages': [{'role': 'system', 'content': 's'}, USER]},
    'first field is null': {'messages': None, 'conversations': [HUMAN], 'text': 'not this'},
    'first field is empty': {'messages': [], 'conversations': '[]', 'text': ' as it is \n'},
}
AUTHORS = {'human': 'user', 'gpt': 'assistant'}


def loaded(value):
    return json.loads(value) if isinstance(value, str) else value


def turn(entry):
    entry = loaded(entry)
    if 'from' not in entry:
        return entry
    entry = dict(entry)
    author, text = entry.pop('from'), entry.pop('value')
    return {'role': AUTHORS.get(author, author), 'content': text, **entry}


def rendered(row):
    """What transformers makes of a row; its text where it has no turns."""
    turns = loaded(row.get('messages')) or loaded(row.get('conversations'))
    if not turns:
        return row['text']
    if isinstance(turns, dict):
        turns = [dict(zip(turns, values)) for values in zip(*turns.values())]
    messages = [turn(entry) for entry in turns]
    if row.get('system') and messages[0]['role'] != 'system':
        messages = [{'role': 'system', 'content': row['system']}] + messages
    return tokenizer.apply_chat_template(
        messages, tools=loaded(row.get('tools')), documents=row.get('documents'), tokenize=False
    )


def write(name, text):
    with open(os.path.join(HERE, name), 'w', newline='\n') as file:
        file.write(text)


write('rendered.json', json.dumps({
    'template': TEMPLATE,
    'rows': [{'name': name, 'row': json.dumps(row), 'rendered': rendered(row)} for name, row in ROWS.items()],
}, indent=1) + '\n')

# Turns with struct columns as a data set of tool calls has them: a field that a turn lacks is null.
TURNS = [ROWS[name]['messages'] for name in ['null content', 'a tool answers', 'reasoning', 'tools']]
table = pa.table({'messages': TURNS, 'tools': [None, None, None, TOOLS]})
pq.write_table(table, os.path.join(HERE, 'turns.parquet'))
write('turns.json', json.dumps([rendered(row) for row in pq.read_table(os.path.join(HERE, 'turns.parquet')).to_pylist()], indent=1) + '\n')

# Columns of many types, in several row groups and pages.
N = 700
COLUMNS = {
    'text': [None if i % 97 == 0 else f'text {i} \ufeff\u00e9\U0001f600' for i in range(N)],
    'whole': pa.array([None if i % 10 == 3 else i * 2**40 for i in range(N)], pa.int64()),
    'small': pa.array([i % 128 for i in range(N)], pa.int32()),
    'unsigned': pa.array([2**64 - 1 - i for i in range(N)], pa.uint64()),
    'float': pa.array([None if i % 11 == 0 else i / 4 for i in range(N)], pa.float64()),
    'single': pa.array([i / 2 for i in range(N)], pa.float32()),
    'flag': [i % 3 == 0 for i in range(N)],
    'list': [None if i % 13 == 0 else [f'{i}', None, ''][: i % 4] for i in range(N)],
    'floats': [[1.0, 2.5, None][: i % 4] for i in range(N)],
    'struct': [None if i % 17 == 0 else {'a': i, 'b': {'c': float(i), 'd': None if i % 2 else 'x'}} for i in range(N)],
    'turns': [[{'role': 'user', 'n': [i, i + 1]}] * (i % 3) for i in range(N)],
    'map': pa.array([[('k', float(i))] for i in range(N)], pa.map_(pa.string(), pa.float64())),
    'day': [datetime.date(2020, 1, 1 + i % 28) for i in range(N)],
    'category': pa.array([['red', 'green', None][i % 3] for i in range(N)]).dictionary_encode(),
    'bytes': [bytes([i % 128, 65]) for i in range(N)],
}
table = pa.table(COLUMNS)
for name, options in {
    'plain': {'compression': 'none', 'use_dictionary': False},
    'pages': {'compression': 'zstd', 'row_group_size': 600, 'data_page_size': 512, 'write_page_index': True, 'data_page_version': '2.0'},
    'groups': {'compression': 'snappy', 'row_group_size': 70},
}.items():
    pq.write_table(table, os.path.join(HERE, f'{name}.parquet'), **options)


def plain(value):
    if isinstance(value, datetime.date):
        return f'{value.isoformat()}T00:00:00.000Z'
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return dict(value)
    return value


rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
write('types.jsonl', ''.join(json.dumps(rows[i]) + '\n' for i in range(N) if i < 70 or i % 50 == 0))
