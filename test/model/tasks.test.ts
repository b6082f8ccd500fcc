import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parseMarkedJson } from '../../model/files/pythonJson.js';
import { prepareTask, readTaskFile } from '../../model/tasks/index.js';
import { aggregate, aggregateGroups, rowScore } from '../../model/tasks/metrics.js';
import type { Prompt } from '../../model/tasks/prompts.js';
import { pythonRandom } from '../../model/tasks/pythonRandom.js';
import { evaluateTemplates } from '../../model/tasks/templates.js';
import { rejectsWith } from '../gpu.js';
import { temporaryFolder } from '../support.js';

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());

const path = (name: string) => join(folder.path, name);
function write(name: string, text: string): string {
  writeFileSync(path(name), text);
  return path(name);
}
const writeRows = (name: string, rows: readonly object[]) =>
  write(name, rows.map(row => `${JSON.stringify(row)}\n`).join(''));

/** What a task asks: [context, continuation] of every request. */
async function asked(taskText: string, rows: string, options: object = {}): Promise<string[][]> {
  const task = await readTaskFile(write('task.yaml', taskText));
  const { prompts } = await prepareTask({ task, rows }, options);
  return prompts.flatMap(({ requests }) =>
    requests.map(({ context, continuation }) => [context, continuation]),
  );
}

const questions = writeRows('questions.jsonl', [
  { q: ' Which is wet? ', options: ['rain', 'sand'], label: 0, topic: 'dry_things' },
  { q: 'Which flies?', options: ['a stone', 'a bird'], label: 1, topic: 'air' },
  { q: 'Which is cold?', options: ['ice', 'fire'], label: 0, topic: 'heat' },
]);
const blanks = writeRows('blanks.jsonl', [
  {
    sentence: 'The cup fell off the table because _ was near the edge.',
    option1: 'the cup',
    option2: 'the table',
    answer: '1',
  },
  { sentence: 'Ann thanked Eve since _ had helped.', option1: 'Ann', option2: 'Eve', answer: '2' },
]);
const passages = writeRows('passages.jsonl', [
  { text: 'He opened the old door' },
  { text: 'She sang a quiet song' },
]);

const wet = 'Q: Which is wet?\nA: rain\n\n';
const flies = 'Q: Which flies?\nA: a bird\n\n';

/** The literals of these four are what lm-eval 0.4.13 makes of the same files and rows. */
test('prompts with a description and two examples are those of lm-eval', async () => {
  const task = `
task: questions
output_type: multiple_choice
description: "About {{topic|replace('_',' ')}}.\\n\\n"
doc_to_text: "Q: {{q.strip()}}\\nA:"
doc_to_choice: options
doc_to_target: label
num_fewshot: 2
fewshot_config: {sampler: first_n}
metric_list: [{metric: acc}]
`;
  const cold = 'Q: Which is cold?\nA: ice\n\n';
  assert.equal(await asked(task, questions), [
    [`About dry things.\n\n${flies}${cold}Q: Which is wet?\nA:`, ' rain'],
    [`About dry things.\n\n${flies}${cold}Q: Which is wet?\nA:`, ' sand'],
    [`About air.\n\n${wet}${cold}Q: Which flies?\nA:`, ' a stone'],
    [`About air.\n\n${wet}${cold}Q: Which flies?\nA:`, ' a bird'],
    [`About heat.\n\n${wet}${flies}Q: Which is cold?\nA:`, ' ice'],
    [`About heat.\n\n${wet}${flies}Q: Which is cold?\nA:`, ' fire'],
  ]);
});

test('delimiters of the task, and a target by its index, are those of lm-eval', async () => {
  const task = `
task: numbered
output_type: multiple_choice
doc_to_text: "{{q}}\\n"
doc_to_choice: ["1)", "2)"]
doc_to_target: "{{options.index(options[label])}}"
target_delimiter: ""
fewshot_delimiter: "\\n#\\n"
`;
  assert.equal(await asked(task, questions, { fewshot: 1 }), [
    ['Which flies?\n2)\n#\n Which is wet? \n', '1)'],
    ['Which flies?\n2)\n#\n Which is wet? \n', '2)'],
    [' Which is wet? \n1)\n#\nWhich flies?\n', '1)'],
    [' Which is wet? \n1)\n#\nWhich flies?\n', '2)'],
    [' Which is wet? \n1)\n#\nWhich is cold?\n', '1)'],
    [' Which is wet? \n1)\n#\nWhich is cold?\n', '2)'],
  ]);
});

test('several contexts before one continuation are those of lm-eval', async () => {
  const task = `
task: blanks
output_type: multiple_choice
fields:
  before: "{{sentence.split('_')[0]}}"
doc_to_text: "{{['1','2'].index(answer)}}"
doc_to_choice: "{{[before ~ option1, before ~ option2]}}"
doc_to_target: "{{sentence.split('_')[1].strip()}}"
num_fewshot: 1
`;
  const [ann, cup] = ['Ann thanked Eve since', 'The cup fell off the table because'];
  assert.equal(await asked(task, blanks), [
    [`${ann} Eve had helped.\n\n${cup} the cup`, ' was near the edge.'],
    [`${ann} Eve had helped.\n\n${cup} the table`, ' was near the edge.'],
    [`${cup} the cup was near the edge.\n\n${ann} Ann`, ' had helped.'],
    [`${cup} the cup was near the edge.\n\n${ann} Eve`, ' had helped.'],
  ]);
});

test('the last word of a passage is asked for as lm-eval does', async () => {
  const task = `
task: last_word
output_type: loglikelihood
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{' '+text.split(' ')[-1]}}"
num_fewshot: 1
`;
  assert.equal(await asked(task, passages), [
    ['She sang a quiet  song\n\nHe opened the old', ' door'],
    ['He opened the old  door\n\nShe sang a quiet', ' song'],
  ]);
});

const choice = `
task: topics
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: options
doc_to_target: label
`;

test('examples of grouped rows come from their own group, and the limit counts by group', async () => {
  const rows = writeRows(
    'grouped.jsonl',
    ['air', 'sea', 'air', 'sea', 'air'].map((topic, i) => ({
      q: `q${i}`,
      options: ['a', 'b'],
      label: 0,
      topic,
    })),
  );
  const contexts = (await asked(`${choice}group_by: topic\n`, rows, { fewshot: 1, limit: 1 })).map(
    ([context]) => context,
  );
  assert.equal(contexts, ['q2 a\n\nq0', 'q2 a\n\nq0', 'q3 a\n\nq1', 'q3 a\n\nq1']);
  const message = await rejectsWith(
    () => asked(`${choice}group_by: topic\n`, rows, { fewshot: 2 }),
    'DATA_INVALID',
  );
  assert.match(
    message,
    /grouped\.jsonl:2: 2 examples are requested, but there are only 1 other rows with the same "topic"/,
  );
});

test('examples of another file are all taken, also one that equals the row', async () => {
  const rows = writeRows('few.jsonl', [{ q: 'x', options: ['a', 'b'], label: 1 }]);
  const task = await readTaskFile(write('task.yaml', choice));
  const { prompts } = await prepareTask({ task, rows, fewshotRows: rows }, { fewshot: 1 });
  assert.is(prompts[0]!.requests[0]!.context, 'x b\n\nx');
});

/** The values are those of lm_eval.utils.apply_template 0.4.13. */
test('templates print and fail as those of lm-eval do', async () => {
  const given = async (source: string, fields = {}) => {
    const [outcomes] = await evaluateTemplates('', [fields], { it: source });
    const outcome = outcomes!.it!;
    return 'value' in outcome ? outcome.value : `error: ${outcome.error}`;
  };
  assert.is(await given('{{a}} {{b}} {{c}}', { a: true, b: null, c: 2 }), 'True None 2');
  assert.is(await given('line\n'), 'line\n');
  assert.is(await given('{% if x %}\n a{% endif %}', { x: true }), '\n a');
  assert.is(await given("{{'McX'.capitalize()}}{{'McX'|capitalize}}"), 'McxMcx');
  assert.is(await given("{{'xxaxx'.strip('x')}}{{'\u{1f600}b'|length}}{{'\u{1f600}b'.find('b')}}"), 'a21');
  assert.is(await given('{{t|regex_replace("(.)\\\\[x\\\\]", "<\\\\1>")}}', { t: 'a[x]b[x]' }), '<a><b>');
  assert.is(await given("{{regex_replace(t, 'a', 'b', 1)}}", { t: 'aa' }), 'ba');
  assert.is(await given('{{x}} {{y}}', { x: ['a'], y: { b: null } }), "['a'] {'b': None}");
  assert.is(await given('{{x}}', parseMarkedJson('{"x": 1.50}') as object), '1.5');
  assert.is(await given('{{x}}', parseMarkedJson('{"x": 2.0}') as object), '2.0');
  assert.equal(await given("{{xs|map('replace', 'a', '-')|list + [y]}}", { xs: ['ab', 'b'], y: 'c' }), [
    '-b',
    'b',
    'c',
  ]);
  assert.is(await given('{{missing}}'), "error: 'missing' is undefined");
  assert.is(await given('{{x.y}}', { x: {} }), "error: 'dict object' has no attribute 'y'");
  assert.is(await given("{{'abc'.index('d')}}"), 'error: substring not found');
});

test('a template that does not end is stopped', async () => {
  const endless = '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}';
  assert.match(
    await rejectsWith(() => asked(`${choice}fields: {x: "${endless}"}\n`, questions), 'CONFIG_INVALID'),
    /task\.yaml: a template or pattern was stopped: it does not end within 5 seconds/,
  );
});

test('wrong task files are refused, naming file and field', async () => {
  const refused = async (text: string) =>
    (await rejectsWith(async () => readTaskFile(write('wrong.yaml', text)), 'CONFIG_INVALID')).replace(
      path('wrong.yaml'),
      'FILE',
    );
  assert.is(await refused(`${choice}doc_to_txt: x\n`), 'FILE: "doc_to_txt" is not a known field');
  assert.is(await refused(choice.replace('task: topics', '')), 'FILE: "task" is missing');
  assert.is(await refused(choice.replace(/doc_to_choice.*\n/, '')), 'FILE: "doc_to_choice" is missing');
  assert.match(
    await refused(choice.replace('multiple_choice', 'loglikelihood_rolling')),
    /"output_type" is loglikelihood_rolling/,
  );
  assert.match(await refused(choice.replace('"{{q}}"', '"{{q"')), /"doc_to_text" is not a Jinja template/);
  assert.match(await refused(`${choice}metric_list: [{metric: bleu}]\n`), /"metric_list" has "bleu"/);
  assert.match(
    await refused(`${choice}metric_list: [{metric: acc, aggregation: median}]\n`),
    /aggregates acc by "median"/,
  );
  assert.match(await refused(`${choice}fewshot_config: {sampler: balanced}\n`), /"fewshot_config" is/);
  assert.match(await refused(`${choice}num_fewshot: -1\n`), /"num_fewshot" is -1/);
  assert.match(await refused(`${choice}process_docs: !function utils.process\n`), /!function/);
  assert.match(await refused(`${choice}a: b: c\n`), /FILE:\d+: neither JSON nor YAML: "/);
  assert.match(await refused('- a\n'), /is not a list of "name: value" lines/);
});

test('wrong rows are refused, naming file, line and field', async () => {
  const refused = async (row: object | string, task = choice) => {
    const good = JSON.stringify({ q: 'x', options: ['a', 'b'], label: 1 });
    const rows = write('rows.jsonl', `${good}\n${typeof row === 'string' ? row : JSON.stringify(row)}\n`);
    const message = await rejectsWith(() => asked(task, rows), 'DATA_INVALID');
    return message.replace(rows, 'ROWS');
  };
  assert.is(
    await refused({ options: ['a', 'b'], label: 1 }),
    `ROWS:2: "doc_to_text" of task topics: 'q' is undefined`,
  );
  assert.match(
    await refused({ q: 'x', options: ['a', 'b'], label: 2 }),
    /ROWS:2: "doc_to_target".* gives 2, which is none of/,
  );
  assert.match(
    await refused({ q: 'x', options: ['a', 'b'], label: '' }),
    /ROWS:2: "doc_to_target".* gives ""/,
  );
  assert.match(
    await refused({ q: 'x', options: 'ab', label: 1 }),
    /ROWS:2: "doc_to_choice".* not a list of texts/,
  );
  assert.match(await refused('{"q": '), /ROWS:2: not JSON/);
  assert.match(await refused('[1]'), /ROWS:2: is not an object/);
  assert.match(
    await refused({ q: 'x', options: ['a', 'b'], label: 1 }, `${choice}fields: {upper: "{{z}}"}\n`),
    /ROWS:1: "fields\.upper" of task topics: 'z' is undefined/,
  );
  assert.match(
    await refused({ q: 'x', options: ['a', 'b'], label: 1 }, `${choice}group_by: subject\n`),
    /ROWS:1: lacks the field "subject"/,
  );
  const task = await readTaskFile(write('task.yaml', choice));
  await rejectsWith(() => prepareTask({ task, rows: path('none.jsonl') }), 'DATA_INVALID');
  await rejectsWith(() => prepareTask({ task }), 'INVALID_ARGUMENT');
});

test('accuracies divide by nothing, characters and bytes', () => {
  const prompt: Prompt = {
    row: { values: {}, exact: {}, where: '' },
    requests: [],
    choices: ['é', 'ab', 'abcd'],
    gold: [0],
  };
  const answers = [-3, -4, -2.5].map(logLikelihood => ({ logLikelihood, isGreedy: false }));
  // -3, -4, -2.5; by 1, 2, 4 characters: -3, -2, -0.625; by 2, 2, 4 bytes: -1.5, -2, -0.625.
  const of = (metric: 'acc' | 'acc_norm' | 'acc_bytes', gold: number) =>
    rowScore(metric, { ...prompt, gold: [gold] }, answers);
  assert.equal([of('acc', 2), of('acc', 0)], [1, 0]);
  const two = { ...prompt, choices: ['é', 'abcd', 'éé'] };
  const even = [-1, -2, -2].map(logLikelihood => ({ logLikelihood, isGreedy: false }));
  // By characters -1, -0.5, -1; by bytes -0.5, -0.5, -0.5, of which the first counts.
  assert.is(rowScore('acc_norm', { ...two, gold: [1] }, even), 1);
  assert.is(rowScore('acc_bytes', { ...two, gold: [0] }, even), 1);
  assert.is(
    rowScore('acc', { ...prompt, choices: [], gold: [] }, [{ logLikelihood: -1, isGreedy: true }]),
    1,
  );
});

/** The numbers are those of lm_eval.api.metrics 0.4.13 on the same values. */
test('means, perplexity and standard errors are those of lm-eval', async () => {
  assert.equal(await aggregate('acc', [1, 0, 0, 1, 1]), { value: 0.6, stderr: 0.24494897427831783 });
  const perplexity = await aggregate('perplexity', [-1, -2.5, -0.3, -4, -1.1]);
  assert.ok(Math.abs(perplexity.value - 5.929856418591146) < 1e-12);
  assert.ok(Math.abs(perplexity.stderr! - 4.8716273772533185) < 1e-9);
  assert.is((await aggregate('acc', [1])).stderr, undefined);
  const groups = [
    { rows: 5, ...(await aggregate('acc', [1, 0, 0, 1, 1])) },
    { rows: 3, ...(await aggregate('acc', [0, 1, 1])) },
  ];
  const pooled = aggregateGroups(groups);
  assert.ok(Math.abs(pooled.value - 5 / 8) < 1e-15);
  assert.ok(Math.abs(pooled.stderr! - 0.19720265943665388) < 1e-15);
});

test("random numbers are Python's", () => {
  const first = (seed: number) => {
    const random = pythonRandom(seed);
    return [random(), random()];
  };
  assert.equal(first(0), [0.8444218515250481, 0.7579544029403025]);
  assert.equal(first(99), [0.40397807494366633, 0.20007544457494542]);
});

test.run();
