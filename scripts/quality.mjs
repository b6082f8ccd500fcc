// Writes a section of docs/quality.md for each model: what a KL divergence means, as text that pruned models write and
// answers that they get right. The sections of other models stay.
//   node scripts/quality.mjs DIR [--kept] [MODEL:LAYERS[:TOKENS:TASKS] ...] [-- options of prune]
// LAYERS such as 2,4,7,10; TOKENS of the held-out text (2048); TASKS such as sciq,piqa (all whose rows ship with the tests).
// Prunes every model at every number of layers by every method, in the window of least cosine distance, and measures KL,
// perplexity and the tasks. DIR keeps each result, so that a
// stopped run goes on; --kept writes what it has and measures nothing. Expects a build.
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
// gsm8k's answers are written, which takes long.
const shipped = readdirSync(rows).filter(name => /^(?!gsm8k)[a-z0-9_]+(?<!_dev|_train)\.jsonl$/.test(name));
const heldOut = join(root, 'assets/demo-heldout.txt');
const prompts = ['The capital of France is', 'Once upon a time, in a small village by the sea, there lived'];

const dash = process.argv.indexOf('--');
const words = process.argv.slice(2, dash < 0 ? undefined : dash);
const more = dash < 0 ? [] : process.argv.slice(dash + 1);
const [folder, ...others] = words;
const wanted = others.filter(word => word !== '--kept');
const onlyKept = wanted.length < others.length;
const usage =
  'usage: node scripts/quality.mjs DIR [--kept] [MODEL:LAYERS[:TOKENS:TASKS] ...] [-- options of prune]';
if (!folder) throw new Error(usage);
const models = (wanted.length > 0 ? wanted : ['assets/demo-model:2,4,6']).map(word => {
  const [path, layers, tokens = '2048', tasks] = word.split(':');
  if (!layers) throw new Error(usage);
  return { word, path, layers: layers.split(',').map(Number), tokens, tasks: tasks?.split(',') };
});

const rmEngine = (...args) =>
  execFileSync(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    maxBuffer: 2 ** 28,
  });

/** Scores of a model on the held-out text and the tasks, and what it writes. */
function scored(model, { tokens, tasks }, against) {
  const comparing = against ? ['--against', against] : [];
  const text = JSON.parse(rmEngine('eval', model, heldOut, '--tokens', tokens, ...comparing, '--json'))
    .files[0];
  const files = (tasks?.map(name => `${name}.jsonl`) ?? shipped).map(name => join(rows, name));
  const writing = ['--health', join(folder, 'prompts.txt'), '--health-tokens', '48'];
  const result = JSON.parse(rmEngine('eval', model, '--tasks', ...files, ...writing, '--no-cache', '--json'));
  const counted = result.tasks.filter(({ metrics }) => metrics.acc !== undefined);
  const right = counted.reduce((sum, task) => sum + task.rows * task.metrics.acc, 0);
  const total = counted.reduce((sum, task) => sum + task.rows, 0);
  return {
    perplexity: text.perplexity,
    kl: text.kl ?? 0,
    top1: text.top1 ?? 1,
    accuracy: right / total,
    rows: total,
    texts: result.health.samples.map(sample => sample.text),
  };
}

/** The measures of one pruned model, kept in a file of its own; undefined where they are not to be made. */
function measured(name, work) {
  const path = join(folder, `${name}.json`);
  if (!existsSync(path) && onlyKept) return undefined;
  if (!existsSync(path)) writeFileSync(path, `${JSON.stringify(work(), null, 2)}\n`);
  return JSON.parse(readFileSync(path, 'utf8'));
}

function pruned({ path: model, ...sizes }, layers, method, window) {
  const out = join(folder, 'pruned');
  rmSync(out, { recursive: true, force: true });
  const where = window === undefined ? ['--select', 'cosine'] : ['--window', `${window}`];
  const what = ['--layers', `${layers}`, '--method', method, ...where, '--report', 'none'];
  rmEngine('prune', model, out, ...what, ...more, '--json');
  const report = JSON.parse(readFileSync(join(out, 'report.json'), 'utf8'));
  const result = {
    ...scored(out, sizes, model),
    window: report.selection.windows[0].layer,
    adapter: report.adapter.description,
  };
  rmSync(out, { recursive: true, force: true });
  return result;
}

mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'prompts.txt'), `${prompts.join('\n\n')}\n`);
const sections = models.map(model => {
  const name = basename(model.path);
  const dense = measured(`${name}-dense`, () => scored(model.path, model));
  const all = model.layers.flatMap(count => {
    let window;
    return methods.flatMap(method => {
      const row = measured(`${name}-${count}-${method}`, () => pruned(model, count, method, window));
      window = row?.window ?? window;
      return row ? [{ count, method, ...row }] : [];
    });
  });
  return { ...model, name, dense, all };
});

const share = value => `${(100 * value).toFixed(1)} %`;
const line = cells => `| ${cells.join(' | ')} |`;
const quoted = text =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/[\\`*_[\]<>|~#]/g, '\\$&');

function tableOf({ word, name, tokens, tasks, dense, all }) {
  const rowsOf = tasks ? `the rows of ${tasks.join(', ')}` : 'all rows';
  return [
    `## ${name}`,
    '',
    '```',
    ['node scripts/quality.mjs DIR', word, ...(more.length > 0 ? ['--', ...more] : [])].join(' '),
    '```',
    '',
    `${all[0].adapter}. The first ${Number(tokens).toLocaleString('en')} tokens of the text, and ${rowsOf}.`,
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
function samplesOf({ dense, all }) {
  return marks.flatMap(mark => {
    const distance = ({ kl }) => Math.abs(Math.log(Math.max(kl, 1e-9) / mark));
    const nearest = all.reduce((best, row) => (distance(row) < distance(best) ? row : best));
    if (distance(nearest) > Math.log(1.7)) return [`### KL ${mark}: no such model among these`, ''];
    return [
      `### KL ${mark}: ${nearest.count} layers removed by ${nearest.method} (KL ${nearest.kl.toFixed(3)})`,
      '',
      ...prompts.flatMap((prompt, p) => [
        `- ${quoted(prompt)}`,
        `  - before: ${quoted(dense.texts[p])}`,
        `  - pruned: ${quoted(nearest.texts[p])}`,
      ]),
      '',
    ];
  });
}

const intro = `# What KL 0.05, 0.3 and 1 feel like

KL is the mean divergence of the pruned model from the model before, in nats per token, here on the first tokens of
[assets/demo-heldout.txt](../assets/demo-heldout.txt), nineteenth-century prose. The last column counts right answers on rows of
\`test/data/tasks\` in the repository: 20 of each task, written for tests of the counting. Their standard error is two points for all
360 rows and five for 80, so trust the order of far rows only, and compare with no published number. The samples are what the
models write greedily after two prompts, 48 tokens at most, through the chat template where there is one. Rows that are not
there have not been measured.

Other models: give \`MODEL:2,4,7,10\` to the command; what DIR has is not measured again.
`;

const page = join(root, 'docs/quality.md');
const earlier = new Map(
  readFileSync(page, 'utf8')
    .split(/^(?=## )/m)
    .slice(1)
    .map(text => [text.slice(3, text.indexOf('\n')), text.trimEnd()]),
);
for (const section of sections) {
  earlier.set(section.name, [...tableOf(section), ...samplesOf(section)].join('\n').trimEnd());
}
writeFileSync(page, `${[intro.trimEnd(), ...earlier.values()].join('\n\n')}\n`);
