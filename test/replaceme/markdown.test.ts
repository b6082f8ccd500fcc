/** Names in Markdown and in HTML, as parsers of both read them. A second. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { comparisonMarkdown } from '../../replaceme/compare/table.js';
import { healedCard, modelCard } from '../../replaceme/report/card/modelCard.js';
import { escapeHtml } from '../../replaceme/report/page/html.js';
import { reportPage } from '../../replaceme/report/page/page.js';
import { markdownName, markdownText } from '../../replaceme/report/text/markdown.js';
import { shownName, shownText } from '../../replaceme/report/text/shownText.js';
import { writeReport } from '../../replaceme/report/writeReport.js';
import { hostileNames } from '../hostileNames.js';
import { saySkipped, temporaryFolder } from '../support.js';
import { compareFixture, healFixture, pruneFixture } from './reportFixture.js';

const names = [
  ...hostileNames,
  ...['a|b', 'a\\|b', 'a\\\\|b', '|', '`', '``', '`a`', '```', '~~~', '*a*', '_a_', 'a_b_c', '__a__', '**'],
  ...[
    '[a](https://example.com)',
    '![a](b)',
    '[a]: https://example.com',
    '<https://example.com>',
    '<b>',
    '<!--',
  ],
  ...[
    '<script>alert(1)</script>',
    '&lt;',
    '&#124;',
    '# a',
    '1. a',
    '- a',
    '+ a',
    '> a',
    '---',
    '===',
    '    code',
  ],
  ...[
    'https://example.com',
    'www.example.com',
    'a_www.example.com',
    'a@example.com',
    '$x$',
    '- [ ] a',
    'a  ',
    ' a',
  ],
  ...[
    '"',
    'a: b',
    '{a}',
    '%YAML',
    '\u0085',
    '\u2028',
    'null',
    'yes',
    '1.5',
    'SmolLM2-135M_Instruct.v2',
    '模型',
  ],
];

test('an ordinary name stays as it is', () => {
  for (const name of ['SmolLM2-135M_Instruct.v2', 'meta-llama/Llama-3.2-1B', 'my text.txt', '模型', ''])
    assert.is(markdownName(name), name);
});

/** Pieces of Markdown as markdown-it reads them: the kinds of what is in the line, and its text. */
function read(python: string, pieces: readonly string[]): { kinds: string[]; text: string }[] {
  const program = `
import json, sys
from markdown_it import MarkdownIt
md = MarkdownIt('commonmark').enable(['table', 'strikethrough'])
read = []
for piece in json.load(sys.stdin):
    inline = [t for t in md.parse(piece) if t.type == 'inline']
    kinds = [t.type for t in md.parse(piece) if t.type != 'inline'] + [c.type for t in inline for c in t.children]
    read.append({'kinds': kinds, 'text': ''.join(c.content for t in inline for c in t.children)})
json.dump(read, sys.stdout)`;
  const { stdout, stderr, status } = spawnSync(python, ['-c', program], { input: JSON.stringify(pieces) });
  assert.is(status, 0, `${stderr}`);
  return JSON.parse(`${stdout}`);
}

const python = process.env.RM_PYTHON;
if (!python || spawnSync(python, ['-c', 'import markdown_it']).status !== 0)
  saySkipped('names as markdown-it reads them: no RM_PYTHON with markdown-it-py');
else {
  test('markdown-it sees a name, whatever is in it: in headings, lines and tables', () => {
    const around = (tags: readonly string[]) => tags.flatMap(tag => [`${tag}_open`, `${tag}_close`]);
    const tableKinds = around(['table', 'thead', 'tbody', 'tr', 'tr', 'th', 'th', 'td', 'td']);
    const squeezed = (text: string) => text.replace(/\s+/g, '');
    const known = names.filter(Boolean);
    for (const [what, write] of [
      ['name', markdownName],
      ['prose', (name: string) => markdownText(`by ${name}`)],
    ] as const) {
      const heading = read(
        python,
        known.map(name => `# ${write(name)}`),
      );
      const line = read(
        python,
        known.map(name => `${write(name)} was pruned`),
      );
      const table = read(
        python,
        known.map(name => `| | |\n|---|---|\n| ${write(name)} | x |\n`),
      );
      for (const [i, name] of known.entries()) {
        const shown = (what === 'name' ? '' : 'by ') + shownName(name);
        const text = what === 'name' ? shown.replaceAll('|', '\\u007c') : shown;
        const parts = ['text', 'text_special', 'code_inline'];
        for (const [{ kinds, text: seen }, rest, outer] of [
          [heading[i]!, '', ['heading_open', 'heading_close']],
          [line[i]!, ' was pruned', ['paragraph_open', 'paragraph_close']],
          [table[i]!, 'x', tableKinds],
        ] as const) {
          // Space at the ends of a line or a cell is not seen.
          assert.is(squeezed(seen), squeezed(text + rest), name);
          assert.equal(kinds.filter(kind => !parts.includes(kind)).sort(), [...outer].sort(), name);
        }
      }
    }
  });
}

/** Lines, and in tables the cells of each: what a name must not change. */
const shape = (text: string): string[] =>
  text.split('\n').map(line => {
    const unescaped = line.replace(/\\\|/g, '');
    return /^\|/.test(line)
      ? `${unescaped.split('|').length} cells`
      : line.slice(0, 3) === '---'
        ? '---'
        : 'line';
  });

test('cards and comparisons have the same lines and cells, and front matter, whatever the names', () => {
  for (const name of names.filter(Boolean)) {
    const model = { ...pruneFixture.model, path: name };
    const file = (path: string) => ({ ...pruneFixture.calibration.files[0]!, path });
    const adapter = { ...pruneFixture.adapter, description: name };
    const pruned = (path: string) =>
      modelCard({
        ...pruneFixture,
        adapter: { ...adapter, description: path },
        model: { ...model, path },
        output: { ...pruneFixture.output, path },
        calibration: { ...pruneFixture.calibration, files: [file(path), file('b')] },
      });
    const healed = (path: string) =>
      healedCard({
        ...healFixture,
        sentence: `Healed ${path}.`,
        model: { ...model, path },
        teacher: { ...model, path },
        output: { ...healFixture.output, path },
        data: { ...healFixture.data, files: [file(path)] },
      });
    const compared = (path: string) =>
      comparisonMarkdown({
        ...compareFixture,
        adapter: { ...adapter, description: path },
        model: { ...compareFixture.model, path: `x/${path.replaceAll('/', '')}` },
        evaluation: compareFixture.evaluation.map(text => ({
          ...text,
          file: `x/${path.replaceAll('/', '')}`,
        })),
        rows: compareFixture.rows.map(row => ('refused' in row ? { ...row, refused: path } : row)),
      });
    for (const write of [pruned, healed, compared]) {
      assert.equal(shape(write(name)), shape(write('plain')), JSON.stringify(name));
      assert.is(shownText(write(name)), write(name), 'nothing hidden');
      const outside = write(name)
        .replace(/^---\n[\s\S]*?\n---\n/, '')
        .replace(/(`+)(?!`).*?[^`]\1(?!`)/g, '');
      assert.not.match(outside, /(?<!\\)<(script|b|https|!--)/, outside);
    }
    const front = (text: string) => parse(/^---\n([\s\S]*?)\n---\n/.exec(text)![1]!);
    for (const write of [pruned, healed]) {
      assert.equal(Object.keys(front(write(name))), Object.keys(front(write('plain'))));
      assert.is(front(write(name)).base_model, undefined, 'a path is no name of the hub');
    }
  }
});

test('report.json holds the same in escapes', async () => {
  using folder = temporaryFolder();
  const name = 'a\u202eb\u009b\u007f\n';
  await writeReport(folder.path, { ...healFixture, model: { ...healFixture.model, path: name } });
  const text = readFileSync(join(folder.path, 'report.json'), 'utf8');
  assert.is(shownText(text), text);
  assert.is(JSON.parse(text).model.path, name);
});

test('a page shows what a name hides', async () => {
  assert.is(escapeHtml('<\u202e\u001b>'), '&lt;\\u202e\\u001b&gt;');
  const name = `a\u202eb\u0007<img src=x>`;
  const page = await reportPage({
    ...compareFixture,
    model: { ...compareFixture.model, path: name },
    evaluation: compareFixture.evaluation.map(text => ({ ...text, file: name })),
    rows: compareFixture.rows.map(row => ({ ...row, method: name }) as never),
  });
  assert.is(shownText(page), page);
  assert.not.match(page, /<img/);
  assert.ok(page.includes('a\\u202eb\\u0007&lt;img'));
});

test.run();
