import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../engine/index.js';
import { shippedPath } from '../model/files/shippedPath.js';
import {
  evaluateTask,
  type PrepareOptions,
  prepareTask,
  RequestCache,
  readTaskFile,
} from '../model/tasks/index.js';
import { judgeTexts } from '../model/tasks/judging.js';
import { openTextReader } from '../model/text/textReader.js';
import { loadTokenizer } from '../model/text/tokenizer.js';
import { Model } from '../model/transformer/model.js';
import { rejectsWith } from './gpu.js';
import { rowsFolder } from './lmEvalCases.js';
import { temporaryFolder } from './support.js';

/** Tasks whose answers are generated, against test/python/lm_eval_generated.py. About ten seconds of CPU. */

interface Golden {
  readonly prompts: readonly {
    readonly task: string;
    readonly fewshot: number | null;
    readonly chat?: string;
    readonly system_instruction?: string;
    readonly fewshot_as_multiturn?: boolean;
    readonly prompts: readonly string[];
  }[];
  readonly judged: readonly {
    readonly task: string;
    readonly cases: readonly [
      row: number,
      answer: string,
      filtered: Record<string, string | null>,
      scores: Record<string, number>,
    ][];
  }[];
  readonly generated: readonly {
    readonly task: string;
    readonly fewshot: number;
    readonly limit: number | null;
    readonly texts: readonly string[];
    readonly metrics: Record<string, number>;
  }[];
}

const golden = JSON.parse(readFileSync(join(rowsFolder, 'generated', 'golden.json'), 'utf8')) as Golden;
const demo = shippedPath('demo-model');
const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());

async function prepared(name: string, options: PrepareOptions) {
  if (name === 'gsm8k') {
    const task = await readTaskFile(shippedPath('tasks', 'gsm8k.yaml'));
    const fewshotRows = join(rowsFolder, 'gsm8k_train.jsonl');
    return prepareTask({ task, rows: join(rowsFolder, 'gsm8k.jsonl'), fewshotRows }, options);
  }
  return prepareTask({ task: await readTaskFile(join(rowsFolder, 'generated', `${name}.yaml`)) }, options);
}

/** The demo model's tokenizer with a chat template. */
async function chatOf(template: string) {
  for (const file of ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'generation_config.json']) {
    cpSync(join(demo, file), join(folder.path, file));
  }
  writeFileSync(join(folder.path, 'chat_template.jinja'), template);
  return (await openTextReader(folder.path)).chat;
}

test('prompts are those of lm-eval: examples drawn at random, chat templates, system messages', async () => {
  for (const { task, fewshot, prompts: theirs, ...style } of golden.prompts) {
    const { prompts, warnings } = await prepared(task, {
      ...(fewshot !== null && { fewshot }),
      ...(style.chat !== undefined && { chat: await chatOf(style.chat) }),
      ...{ fewshotAsMultiturn: style.fewshot_as_multiturn, systemInstruction: style.system_instruction },
      limit: 4,
    });
    const name = `${task} ${JSON.stringify(style)}`;
    assert.equal(
      prompts.map(({ requests }) => requests[0]!.context),
      theirs,
      name,
    );
    const refused =
      style.chat?.includes('raise_exception') && (style.system_instruction || task === 'capital');
    assert.is(warnings.length, refused ? 1 : 0, name);
  }
});

test('filters and exact match are those of lm-eval', async () => {
  for (const { task: name, cases } of golden.judged) {
    const { task, prompts } = await prepared(name, { fewshot: 0 });
    const judged = await judgeTexts(
      task.path,
      cases.map(([row, answer]) => ({ answer, targets: prompts[row]!.targets! })),
      task.generation!.filters,
      task.exactMatch,
    );
    for (const [i, [row, answer, filtered, scores]] of cases.entries()) {
      for (const [filter, theirs] of Object.entries(filtered)) {
        const expected = [theirs, scores[filter] === 1];
        assert.equal(
          judged[i]![filter],
          expected,
          `${name}, row ${row}, ${JSON.stringify(answer)}, ${filter}`,
        );
      }
    }
  }
});

test("the demo model's answers are those of lm-eval, also when some are in the cache", async () => {
  await using device = await Device.open();
  using model = await Model.load(device, demo);
  const tokenizer = await loadTokenizer(demo);
  for (const { task: name, fewshot, limit, texts, metrics } of golden.generated) {
    const task = await prepared(name, { fewshot, ...(limit !== null && { limit }) });
    using cache = await RequestCache.open(join(folder.path, `${name}.jsonl`));
    const { result, samples } = await evaluateTask(model, tokenizer, task, { cache });
    assert.equal(
      samples.map(({ generated }) => generated!.text),
      texts,
      name,
    );
    for (const [key, value] of Object.entries(metrics)) {
      const [metric, filter] = key.split(',') as [string, string];
      const stderr = metric.endsWith('_stderr');
      const ours = `exact_match${filter === 'none' ? '' : `,${filter}`}${stderr ? '_stderr' : ''}`;
      assert.ok(Math.abs(result.metrics[ours]! - value) < 1e-12, `${name}: ${key}`);
    }
    // As after an interruption: one line is there, another was cut off.
    const lines = readFileSync(cache.path, 'utf8').split('\n');
    writeFileSync(cache.path, `${lines[0]}\n${lines[1]!.slice(0, 20)}`);
    using resumed = await RequestCache.open(cache.path);
    const again = await evaluateTask(model, tokenizer, task, { cache: resumed });
    assert.equal([again.samples, again.result.cached], [samples, 1]);
    using whole = await RequestCache.open(cache.path);
    assert.is(whole.size, texts.length);
  }
});

test('wrong rules of generation are refused, naming file and field', async () => {
  const task = 'task: t\noutput_type: generate_until\ndoc_to_text: q\ndoc_to_target: a\n';
  const path = join(folder.path, 'wrong.yaml');
  const refused = (more: string) => {
    writeFileSync(path, task + more);
    return rejectsWith(() => readTaskFile(path), 'CONFIG_INVALID');
  };
  assert.match(
    await refused('generation_kwargs: {do_sample: true}\n'),
    /wrong\.yaml: "generation_kwargs" asks/,
  );
  assert.match(await refused('generation_kwargs: {until: [""]}\n'), /has "until: \[""\]"/);
  assert.match(await refused('generation_kwargs: {max_gen_toks: 0}\n'), /sets the most tokens to 0/);
  assert.match(await refused('generation_kwargs: {beams: 4}\n'), /has "beams"/);
  assert.match(await refused('repeats: 8\n'), /"repeats" is 8/);
  const filter = (steps: string) => refused(`filter_list: [{name: x, filter: ${steps}}]\n`);
  assert.match(await filter('[{function: regex}]'), /does not end "x" with take_first/);
  assert.match(await filter('[{function: guess}, {function: take_first}]'), /has the function "guess"/);
  assert.match(
    await filter('[{function: regex, regex_pattern: "("}, {function: take_first}]'),
    /"filter_list" is not a regular expression: missing \)/,
  );
  assert.match(
    await refused('metric_list: [{metric: exact_match, regexes_to_ignore: ["*"]}]\n'),
    /"metric_list" is not a regular expression: nothing to repeat/,
  );
  assert.match(
    await refused('metric_list: [{metric: exact_match, ignore_case: 1}]\n'),
    /sets ignore_case to 1/,
  );
});

test('a pattern that does not end is stopped', async () => {
  const rows = [{ answer: 'a'.repeat(40), targets: ['b'] }];
  const steps = [{ function: 'regex', regex_pattern: '(a|a)*b' }];
  const message = await rejectsWith(
    () => judgeTexts('t.yaml', rows, [{ name: 'x', steps }], {}),
    'CONFIG_INVALID',
  );
  assert.match(message, /t\.yaml: a template or pattern was stopped: it does not end within 5 seconds/);
});

test.run();
