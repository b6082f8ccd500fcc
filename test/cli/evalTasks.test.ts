import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startHub } from '../model/hubServer.js';
import { dataPath, saySkipped, temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { ownCache, rmEngine } from './support.js';

const folder = temporaryFolder();
const path = (...parts: string[]) => join(folder.path, ...parts);
const [model, other] = [path('model'), path('other')];
const env = () => ownCache(path('user cache'));

const colours = ['red', 'green', 'blue', 'grey', 'black'];
const rowCount = 40;

test.before(async () => {
  for (const name of [model, other, path('rows')]) mkdirSync(name);
  await writeTinyModel(model);
  await writeTinyModel(other, {
    values: (name, values) => {
      if (name.endsWith('norm.weight')) values.fill(0.5);
    },
  });
  writeFileSync(
    path('colours.yaml'),
    `
task: colours
output_type: multiple_choice
doc_to_text: "{{thing}} is"
doc_to_choice: [${colours.join(', ')}]
doc_to_target: colour
group_by: kind
metric_list: [{metric: acc}, {metric: acc_norm}]
rows: colours.jsonl
`,
  );
  const rows = Array.from({ length: rowCount }, (_, i) => ({
    thing: `Thing number ${i}`,
    colour: colours[i % 5],
    kind: i % 4 === 0 ? 'rare' : 'common',
  }));
  writeFileSync(path('colours.jsonl'), rows.map(row => `${JSON.stringify(row)}\n`).join(''));
  const piqa = { goal: 'Open a jar', sol1: 'turn the lid', sol2: 'eat the lid', label: 0 };
  writeFileSync(path('rows', 'piqa_val.jsonl'), `${JSON.stringify(piqa)}\n`.repeat(2));
  writeFileSync(path('rows', 'piqa-train.jsonl'), `${JSON.stringify({ ...piqa, label: 1 })}\n`);
  writeFileSync(path('rows', 'notes.jsonl'), 'of no task');
});
test.after(() => folder[Symbol.dispose]());

const evaluate = async (...args: string[]) => {
  const { status, stdout, stderr } = await rmEngine(['eval', model, ...args, '--json'], { env: env() });
  assert.is(status, 0, stderr);
  return { ...JSON.parse(stdout), stderr };
};

const tasks = ['--tasks', path('colours.yaml')];

test('a task is evaluated, alone and against another model, and every answer can be had', async () => {
  const samples = path('samples.jsonl');
  const result = await evaluate(...tasks, '--against', other, '--samples', samples);
  const [task] = result.tasks;
  assert.is(task.task, 'colours');
  assert.equal([task.rows, task.fewshot, task.requests, task.cached], [rowCount, 0, 5 * rowCount, 0]);
  const lines = readFileSync(samples, 'utf8')
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line));
  assert.is(lines.length, 2 * rowCount);
  for (const [folderOf, result] of [
    [model, task],
    [other, task.against],
  ] as const) {
    const own = lines.filter(line => line.model === folderOf);
    const right = own.filter(({ answers, gold }) => {
      const values: number[] = answers.map((answer: { logLikelihood: number }) => answer.logLikelihood);
      return values.indexOf(Math.max(...values)) === gold[0];
    });
    const acc = right.length / rowCount;
    assert.ok(Math.abs(result.metrics.acc - acc) < 1e-12);
    assert.equal(
      result.groups.map(({ group, rows }: { group: string; rows: number }) => [group, rows]),
      [
        ['rare', 10],
        ['common', 30],
      ],
    );
    const ofGroup = right.filter(({ group }) => group === 'rare').length / 10;
    assert.ok(Math.abs(result.groups[0].metrics.acc - ofGroup) < 1e-12);
  }
  assert.is(lines[0].row, `${path('colours.jsonl')}:1`);
  assert.equal(lines[0].gold, [0]);
  assert.equal(
    lines[0].answers.map((answer: { context: string; continuation: string; bytes: number }) => [
      answer.context,
      answer.continuation,
      answer.bytes,
    ]),
    colours.map(colour => ['Thing number 0 is', ` ${colour}`, colour.length]),
  );
  const refused = await rmEngine(['eval', model, ...tasks, '--samples', samples], { env: env() });
  assert.is(refused.status, 1);
  assert.match(refused.stderr, /a file is in the way \(OUTPUT_EXISTS\)/);
});

test("results in lm-eval's layout, which its own table shows", async () => {
  const out = path('lm eval results');
  const { tasks: found } = await evaluate(...tasks, '--limit', '8', '--output-path', out);
  const [file] = readdirSync(join(out, basename(model)));
  assert.match(file!, /^results_\d{4}-\d\d-\d\dT[\d.-]+\.json$/);
  const results = JSON.parse(readFileSync(join(out, basename(model), file!), 'utf8'));
  const { metrics, groups, rows } = found[0];
  const { colours: of, colours_rare: rare } = results.results;
  assert.equal([of['acc,none'], of['acc_stderr,none']], [metrics.acc, metrics.acc_stderr]);
  assert.is(rare['acc_norm,none'], groups[0].metrics.acc_norm);
  assert.equal(results['n-samples'].colours, { original: rowCount, effective: rows });
  assert.equal(results.group_subtasks.colours, ['colours_rare', 'colours_common']);
  assert.equal([results['n-shot'].colours, results.higher_is_better.colours.acc], [0, true]);
  const { RM_LM_EVAL: python } = process.env;
  if (!python) return saySkipped("lm-eval's own table: needs RM_LM_EVAL");
  const script =
    'import json, sys; from lm_eval.utils import make_table; print(make_table(json.load(open(sys.argv[1]))))';
  const { status, stdout, stderr } = spawnSync(python, ['-c', script, join(out, basename(model), file!)], {
    encoding: 'utf8',
  });
  assert.is(status, 0, stderr);
  const [, shown] = /\|colours +\|.*\|acc +\|[^|]*\| *([\d.]+)\|/.exec(stdout)!;
  assert.is(Number(shown), Number(metrics.acc.toFixed(4)));
});

test('a second run takes the answers from the cache, another model does not', async () => {
  const cache = ['--cache', path('own answers')];
  const first = await evaluate(...tasks, ...cache);
  const second = await evaluate(...tasks, ...cache);
  assert.equal([first.tasks[0].cached, second.tasks[0].cached], [0, 200]);
  assert.match(second.stderr, /colours: 200 of 200 answers came from the cache/);
  assert.equal({ ...second.tasks[0], cached: 0 }, first.tasks[0]);
  const { tasks: uncached } = JSON.parse(
    (await rmEngine(['eval', other, ...tasks, ...cache, '--json'], { env: env() })).stdout,
  );
  assert.is(uncached[0].cached, 0);
  const without = await evaluate(...tasks, '--no-cache');
  assert.equal(without.tasks[0], first.tasks[0]);
  assert.is(readdirSync(path('own answers')).length, 2);
});

/** Starts an evaluation in small batches and sends it a signal as soon as some answers are cached. */
function stopped(cache: string, signal: NodeJS.Signals): Promise<number | null> {
  const main = fileURLToPath(new URL('../../cli/main.js', import.meta.url));
  const args = ['eval', model, ...tasks, '--batch-tokens', '40', '--cache', cache];
  const child = spawn(process.execPath, [main, ...args], {
    stdio: 'ignore',
    env: { ...process.env, ...env() },
  });
  const timer = setInterval(() => {
    const [file] = existsSync(cache) ? readdirSync(cache) : [];
    if (!file || statSync(join(cache, file)).size === 0) return;
    // Once: a second one would end the process at once.
    clearInterval(timer);
    child.kill(signal);
  }, 1);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', status => {
      clearInterval(timer);
      resolve(status);
    });
  });
}

for (const [signal, status] of [
  ['SIGINT', 130],
  ['SIGKILL', null],
] as const) {
  test(`a run that is ended by ${signal} goes on where it was`, async () => {
    const cache = path(`answers ${signal}`);
    assert.is(await stopped(cache, signal), status);
    const small = [...tasks, '--batch-tokens', '40'];
    const rest = await evaluate(...small, '--cache', cache);
    const { cached, requests } = rest.tasks[0];
    assert.ok(cached > 0 && cached < requests, `${cached} of ${requests}`);
    const whole = await evaluate(...small, '--no-cache');
    assert.equal({ ...rest.tasks[0], cached: 0 }, whole.tasks[0]);
  });
}

test('rows are matched with built-in tasks by their names, in a folder with examples', async () => {
  const { tasks: results } = await evaluate('--tasks', path('rows'), '--fewshot', '1', '--limit', '1');
  assert.is(results.length, 1);
  assert.equal([results[0].task, results[0].rows, results[0].fewshot], ['piqa', 1, 1]);
  const file = path('rows', 'piqa_val.jsonl');
  for (const word of [file, `piqa=${file}`]) {
    const [task] = (await evaluate('--tasks', word, '--fewshot-rows', path('rows', 'piqa-train.jsonl')))
      .tasks;
    assert.equal([task.task, task.file, task.rows], ['piqa', file, 2]);
  }
});

test('tables name task, metric, value and standard error', async () => {
  const { stdout } = await rmEngine(['eval', model, ...tasks, '--against', other], { env: env() });
  const [head, first, second, third] = stdout.split('\n');
  assert.match(head!, /^task +rows +few-shot +metric +value +± stderr +other model +± stderr$/);
  assert.match(first!, /^colours +40 +0 +acc ↑ +0\.\d{4} +± 0\.\d{4} +0\.\d{4} +± 0\.\d{4}$/);
  assert.match(second!, /^ +acc_norm ↑ +0\.\d{4}/);
  assert.match(third!, /^ {2}rare +10 +acc ↑/);
});

test('rows by the name of a task: downloaded once, then without a network', async () => {
  const rows = dataPath('tasks', 'parquet', 'arc_easy.parquet');
  const file = readFileSync(rows);
  const files = new Map([
    ['ARC-Easy/test/0000.parquet', file],
    ['ARC-Easy/train/0000.parquet', file],
    ['ARC-Challenge/test/0000.parquet', Buffer.from('another configuration')],
  ]);
  const hub = await startHub(files, undefined, 'allenai/ai2_arc', 'datasets');
  const cache = { ...env(), HF_HUB_CACHE: path('hub') };
  const online = { ...cache, HF_ENDPOINT: hub.url };
  const asked = ['eval', model, '--tasks', 'arc_easy', '--json'];
  try {
    const absent = await rmEngine(asked, { env: online });
    assert.is(absent.status, 2);
    assert.equal(hub.requests, [], 'nothing is asked without --download');
    const first = await rmEngine([...asked, '--download'], { env: online });
    assert.is(first.status, 0, first.stderr);
    assert.match(first.stderr, /allenai\/ai2_arc, ARC-Easy, test: downloaded to /);
    assert.equal(
      hub.requests.filter(request => request.includes('/resolve/')),
      [`/datasets/allenai/ai2_arc/resolve/${hub.commit}/ARC-Easy/test/0000.parquet`],
    );
    const [folderOf] = readdirSync(path('hub'));
    assert.is(folderOf, 'datasets--allenai--ai2_arc');
    assert.is(readFileSync(path('hub', folderOf, 'refs', 'refs', 'convert', 'parquet'), 'utf8'), hub.commit);
    await hub.close();
    const offline = await rmEngine(asked, { env: { ...cache, HF_ENDPOINT: 'http://127.0.0.1:9' } });
    assert.is(offline.status, 0, offline.stderr);
    const given = await rmEngine([...asked.slice(0, 3), `arc_easy=${rows}`, '--json'], { env: cache });
    const metricsOf = ({ stdout }: { stdout: string }) => JSON.parse(stdout).tasks[0].metrics;
    assert.equal(metricsOf(offline), metricsOf(given));
    assert.equal(metricsOf(first), metricsOf(given));
  } finally {
    await hub.close();
  }
});

test("answers are generated, judged by every filter, cached, and told in lm-eval's layout", async () => {
  writeFileSync(
    path('spoken.yaml'),
    `
task: spoken
output_type: generate_until
doc_to_text: "{{thing}} is"
doc_to_target: colour
generation_kwargs: {until: ["."], max_gen_toks: 6}
filter_list:
  - {name: all, filter: [{function: regex, regex_pattern: "(?s).*"}, {function: take_first}]}
  - {name: none, filter: [{function: map, default_value: red}, {function: take_first}]}
rows: colours.jsonl
`,
  );
  const args = ['--tasks', path('spoken.yaml'), '--limit', '10', '--system-instruction', 'Name it.'];
  const [samples, out] = [path('spoken.jsonl'), path('spoken results')];
  const first = await evaluate(...args, '--samples', samples, '--output-path', out);
  // Two of ten rows are red.
  const { exact_match: red } = first.tasks[0].metrics;
  assert.ok(Math.abs(red - 0.2) < 1e-12);
  const [line] = readFileSync(samples, 'utf8').split('\n');
  const { generated, scores } = JSON.parse(line!);
  assert.is(generated.context, 'Name it.Thing number 0 is');
  assert.equal([generated.targets, generated.filtered.none], [['red'], 'red']);
  assert.is(generated.filtered.all, generated.text.trim());
  assert.equal(scores.exact_match, 1);
  const [file] = readdirSync(join(out, basename(model)));
  const { results } = JSON.parse(readFileSync(join(out, basename(model), file!), 'utf8'));
  assert.is(results.spoken['exact_match,none'], red);
  assert.is(results.spoken['exact_match,all'], first.tasks[0].metrics['exact_match,all']);
  assert.is(results.spoken['exact_match_stderr,all'], first.tasks[0].metrics['exact_match,all_stderr']);
  const again = await evaluate(...args);
  assert.equal(again.tasks[0], { ...first.tasks[0], cached: 10 });
});

test('rows and examples of gsm8k by its name', async () => {
  const rows = readFileSync(dataPath('tasks', 'parquet', 'gsm8k.parquet'));
  const files = new Map([
    ['main/test/0000.parquet', rows],
    ['main/train/0000.parquet', rows],
  ]);
  const hub = await startHub(files, undefined, 'openai/gsm8k', 'datasets');
  const online = { ...env(), HF_HUB_CACHE: path('gsm8k hub'), HF_ENDPOINT: hub.url };
  const asked = ['eval', model, '--tasks', 'gsm8k', '--limit', '1'];
  try {
    const absent = await rmEngine(asked, { env: online });
    assert.is(absent.status, 2);
    assert.match(absent.stderr, /gsm8k needs its rows[\s\S]*--download[\s\S]*openai\/gsm8k, main, test/);
    await rmEngine([...asked, '--fewshot', '0', '--download'], { env: online });
    const half = await rmEngine(asked, { env: online });
    assert.match(half.stderr, /needs the rows of its 5 examples[\s\S]*openai\/gsm8k, train[\s\S]*--fewshot/);
    const { status, stderr } = await rmEngine([...asked, '--download'], { env: online });
    assert.match(stderr, /openai\/gsm8k, main, train: downloaded to /);
    // The tiny model has a context of 128 tokens.
    assert.is(status, 2);
    assert.match(stderr, /answers of 256 tokens leave no room for a prompt/);
  } finally {
    await hub.close();
  }
});

test('what means no task is refused', async () => {
  const refused = async (args: string[], words: RegExp) => {
    const result = await rmEngine(['eval', model, ...args], { env: env() });
    assert.is(result.status, 2, result.stderr);
    assert.match(result.stderr, words);
    assert.is(result.stdout, '');
  };
  await refused([], /nothing to evaluate/);
  await refused(['--tasks', 'nothing=a.jsonl'], /there is no task "nothing"[\s\S]*Built-in tasks: .*piqa/);
  await refused(
    ['--tasks', 'piqa'],
    /task piqa needs its rows, which are not in the Hugging Face cache[\s\S]*--download[\s\S]*baber\/piqa, validation[\s\S]*piqa=rows/,
  );
  await refused(['--tasks', 'chid'], /task chid needs its rows[\s\S]*FewCLUE on GitHub/);
  await refused(['--tasks', path('none.jsonl')], /no such file, folder or task/);
  await refused(['--tasks', path('rows', 'notes.jsonl')], /does not begin with the name of a task/);
  await refused(['--tasks', model], /holds neither task files nor rows/);
  const two = ['--tasks', path('colours.yaml'), path('rows')];
  await refused([...two, '--fewshot-rows', 'x.jsonl'], /with several tasks, write TASK=FILE/);
  await refused([...two, '--fewshot-rows', 'boolq=x.jsonl'], /--tasks names no task boolq/);
  await refused([...tasks, '--fewshot', '-1'], /Give a whole number/);
  await refused(
    [...tasks, '--no-fewshot-as-multiturn'],
    /--no-fewshot-as-multiturn needs --apply-chat-template/,
  );
  const untold = await rmEngine(['eval', model, ...tasks, '--apply-chat-template'], { env: env() });
  assert.is(untold.status, 1);
  assert.match(untold.stderr, /the model has no chat template/);
});

test('greedy samples of both models are told, with what they repeat', async () => {
  writeFileSync(path('prompts.txt'), 'Say something.\n\nAnd more.\n');
  const args = ['--health', path('prompts.txt'), '--health-tokens', '12', '--against', other];
  const { health } = await evaluate(...args);
  for (const { samples, ended, repeated4grams } of [health, health.against]) {
    assert.equal(
      samples.map(({ prompt }: { prompt: string }) => prompt),
      ['Say something.', 'And more.'],
    );
    for (const { tokens, ended: own } of samples) assert.is(own, tokens < 12);
    assert.ok(ended >= 0 && ended <= 2 && repeated4grams >= 0 && repeated4grams <= 1);
  }
  const generated = await rmEngine(['generate', model, 'And more.', '--max-tokens', '12', '--json']);
  assert.is(health.samples[1].text, JSON.parse(generated.stdout).text);
  const { stdout } = await rmEngine(['eval', model, ...args]);
  assert.match(stdout, /^greedy samples +repeated 4-grams +distinct-1 +distinct-2 +longest loop +ended/);
  assert.match(stdout, /^> Say something\.$/m);
});

test.run();
