// Writes docs/quality.md: what a KL divergence means, as text that pruned models write and answers that they get right.
//   node scripts/quality.mjs DIR [MODEL:LAYERS ...] [-- options of prune]       LAYERS such as 2,4,7,10
// Prunes every model at every number of layers by every method, and measures KL, perplexity and the tasks whose rows ship
// with the tests. DIR keeps each result, so that a stopped run goes on. Expects a build.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const main = join(root, 'dist/cli/main.js');
const methods = ['plain', 'replaceme-ls', 'refit', 'refit-heal'];
/** KL divergences whose feel the page shows. */
const marks = [0.05, 0.3, 1];
/** Their few-shot examples and golden scores lie beside the rows. */
const rows = join(root, 'test/data/tasks');
const tasks = readdirSync(rows).filter(name => /^[a-z0-9_]+(?<!_dev|_train)\.jsonl$/.test(name));
const heldOut = join(root, 'assets/demo-heldout.txt');

const dash = process.argv.indexOf('--');
const words = process.argv.slice(2, dash < 0 ? undefined : dash);
const more = dash < 0 ? [] : process.argv.slice(dash + 1);
const [folder, ...wanted] = words;
if (!folder) throw new Error('usage: node scripts/quality.mjs DIR [MODEL:LAYERS ...] [-- options of prune]');
const models = (wanted.length > 0 ? wanted : ['assets/demo-model:2,4,6']).map(word => {
  const at = word.lastIndexOf(':');
  return {
    path: word.slice(0, at),
    layers: word
      .slice(at + 1)
      .split(',')
      .map(Number),
  };
});

const rmEngine = (...args) =>
  execFileSync(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
  });

/** Scores of a model on the held-out text and the tasks. */
function scored(model, against) {
  const args = [
    'eval',
    model,
    heldOut,
    '--tokens',
    '2048',
    ...(against ? ['--against', against] : ['--no-cache']),
  ];
  const text = JSON.parse(rmEngine(...args, '--json')).files[0];
  const files = tasks.map(name => join(rows, name));
  const result = JSON.parse(rmEngine('eval', model, '--tasks', ...files, '--no-cache', '--json'));
  const counted = result.tasks.filter(({ metrics }) => metrics.acc !== undefined);
  const right = counted.reduce((sum, task) => sum + task.rows * task.metrics.acc, 0);
  const total = counted.reduce((sum, task) => sum + task.rows, 0);
  return {
    perplexity: text.perplexity,
    kl: text.kl ?? 0,
    top1: text.top1 ?? 1,
    accuracy: right / total,
    rows: total,
  };
}

/** The measures of one pruned model, kept in a file of its own. */
function measured(name, work) {
  const path = join(folder, `${name}.json`);
  if (!existsSync(path)) writeFileSync(path, `${JSON.stringify(work(), null, 2)}\n`);
  return JSON.parse(readFileSync(path, 'utf8'));
}

function pruned(model, layers, method) {
  const out = join(folder, 'pruned');
  rmSync(out, { recursive: true, force: true });
  rmEngine('prune', model, out, '--layers', `${layers}`, '--method', method, ...more, '--json');
  const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
  const samples = report.evaluation.samples.map(({ prompt, continuations }) => {
    const textOf = role => continuations.find(({ model: of }) => of === role)?.text ?? '';
    return { prompt, before: textOf('dense'), text: textOf('result') };
  });
  const result = {
    ...scored(out, model),
    summary: report.summary,
    adapter: report.adapter.description,
    samples,
  };
  rmSync(out, { recursive: true, force: true });
  return result;
}

mkdirSync(folder, { recursive: true });
const sections = models.map(({ path, layers }) => {
  const name = basename(path);
  const dense = measured(`${name}-dense`, () => scored(path));
  const all = layers.flatMap(count =>
    methods.map(method => ({
      ...{ count, method },
      ...measured(`${name}-${count}-${method}`, () => pruned(path, count, method)),
    })),
  );
  return { name, dense, all };
});

const share = value => `${(100 * value).toFixed(1)} %`;
const line = cells => `| ${cells.join(' | ')} |`;
const quoted = text =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_[\]<>|~#]/g, '\\$&');

function tableOf({ name, dense, all }) {
  return [
    `## ${name}`,
    '',
    line(['removed', 'method', 'KL', 'perplexity', 'same top token', `right of ${dense.rows}`]),
    line(['--:', '---', '--:', '--:', '--:', '--:']),
    line(['0', '', '0', dense.perplexity.toFixed(2), '100.0 %', share(dense.accuracy)]),
    ...all.map(({ count, method, kl, perplexity, top1, accuracy }) =>
      line([count, method, kl.toFixed(3), perplexity.toFixed(2), share(top1), share(accuracy)]),
    ),
    '',
  ];
}

/** For each mark the model whose KL is nearest to it, by the ratio. */
function samplesOf({ name, all }) {
  return marks.flatMap(mark => {
    const distance = ({ kl }) => Math.abs(Math.log(Math.max(kl, 1e-9) / mark));
    const nearest = all.reduce((best, row) => (distance(row) < distance(best) ? row : best));
    if (distance(nearest) > Math.log(1.7))
      return [`### KL ${mark}: no such model among those of ${name}`, ''];
    return [
      `### KL ${mark}: ${name}, ${nearest.count} layers removed by ${nearest.method} (KL ${nearest.kl.toFixed(3)})`,
      '',
      ...nearest.samples.flatMap(({ prompt, text, before }) => [
        `- ${quoted(prompt)}`,
        `  - before: ${quoted(before)}`,
        `  - pruned: ${quoted(text)}`,
      ]),
      '',
    ];
  });
}

const command = ['node scripts/quality.mjs DIR', ...wanted];
const page = [
  '# What KL 0.05, 0.3 and 1 feel like',
  '',
  'KL is the mean divergence of the pruned model from the model before, in nats per token, here on the first 2,048 tokens of',
  '[assets/demo-heldout.txt](../assets/demo-heldout.txt). The last column counts right answers on the rows in',
  '[test/data/tasks](../test/data/tasks), all tasks together: about 20 rows of each task, written for tests of the counting. Their',
  'standard error is about two points, so trust the order of far rows only, and compare with no published number.',
  'Models that guess get about a quarter of them right, as the demo model does: its column says nothing of the methods.',
  'Other models: add `MODEL:2,4,7,10` to the command; what DIR has is not measured again.',
  '',
  '```',
  [...command, ...(more.length > 0 ? ['--', ...more] : [])].join(' '),
  '```',
  '',
  ...sections.flatMap(tableOf),
  '## In words',
  '',
  'Greedy continuations, 48 tokens at most, of two prompts.',
  '',
  ...sections.flatMap(samplesOf),
];
writeFileSync(join(root, 'docs/quality.md'), `${page.join('\n').trimEnd()}\n`);
