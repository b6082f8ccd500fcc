import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatBeforeAfter, formatResult, nextSteps } from '../../cli/prune/summary.js';
import type { PruneReport } from '../../replaceme/index.js';

const size = (layers: number, total: number) => ({
  ...{ layers, parameters: { total }, bytes: { weights: 2 * total } },
});
const before = size(30, 134_515_008);
const after = size(23, 109_736_640);

test('layers, parameters and bytes before and after', () => {
  assert.equal(formatBeforeAfter({}, before, after).split('\n'), [
    '             before              after',
    'layers           30                 23',
    'parameters  134.5 M  109.7 M (-18.4 %)',
    'weights     257 MiB  209 MiB (-18.4 %)',
    '',
  ]);
});

const measured = (role: 'dense' | 'plain' | 'result', ppl: number, kl: number) => ({
  ...{ role, eval: [{ file: 'data/wiki.txt', ppl, kl, top1: 0.5 }] },
});

test('with an evaluation: perplexity and KL of every text, removal alone between', () => {
  const evaluation = {
    texts: [{ file: 'data/wiki.txt' }],
    models: [measured('dense', 17.314, 0), measured('plain', 48.5, 1.0312), measured('result', 21.25, 0.2)],
  } as unknown as NonNullable<PruneReport['evaluation']>;
  const rows = formatBeforeAfter({ evaluation }, before, after).split('\n');
  assert.match(rows[0]!, /^ +before +only removed +after$/);
  assert.equal(
    rows.slice(4, 8).map(row => row.split(/ {2,}/)),
    [
      ['wiki.txt'],
      ['', 'perplexity', '17.31', '48.50', '21.25'],
      ['', 'KL to the original', '1.03', '0.200'],
      ['', 'same next token', '50.0 %', '50.0 %'],
    ],
  );
});

test('what to do next can be pasted into a shell', () => {
  assert.is(
    nextSteps('./my model', "it's", {}),
    "next: rm-engine chat 'it'\\''s' --against './my model'\n" +
      "      rm-engine eval 'it'\\''s' FILE... --against './my model'\n" +
      "      hf upload ORG/NAME 'it'\\''s'",
  );
  assert.is(
    nextSteps('clip', 'pruned', { images: true }),
    'next: rm-engine inspect pruned\n      hf upload ORG/NAME pruned',
  );
});

test('the result: table, verdict, what was removed and where it is, in 80 columns', () => {
  const evaluation = {
    texts: [{ file: `${'long '.repeat(30)}.txt` }],
    models: [measured('dense', 17.314, 0), measured('plain', 48.5, 1.0312), measured('result', 21.25, 0.92)],
  };
  const report = {
    evaluation,
    selection: {},
    verdict: { sentence: `KL 0.92: badly damaged. Try more \`calibration\`${', or 4 layers'.repeat(6)}.` },
    summary: 'keep 11, remove 12..18 (7 of 30 layers)',
    ...{ method: 'refit', output: { path: 'out' }, seconds: 75 },
  } as unknown as PruneReport;
  const text = formatResult(report, { before, after });
  const lines = text.split('\n');
  for (const line of lines) assert.ok(line.length <= 80, line);
  assert.equal(
    lines.filter(line => /^(layers|KL|removed|model|report|took)/.test(line)).map(line => line.slice(0, 33)),
    [
      'layers                            ',
      'KL 0.92: badly damaged. Try more -',
      'removed  keep 11, remove 12..18 (7',
      'model    out',
      'report   out/report.html',
      'took     1 min 15 s',
    ].map(line => line.slice(0, 33)),
  );
  assert.match(text, /more --calib/);
  const gguf = formatResult({ ...report, output: { path: 'a/m.gguf' } } as never, { before, after });
  assert.match(gguf, /report {3}a\/m\.report\.html/);
});

test.run();
