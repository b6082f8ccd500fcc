import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatBeforeAfter, nextSteps } from '../../cli/prune/summary.js';
import type { PruneReport } from '../../replaceme/index.js';

const size = (layers: number, total: number) => ({
  ...{ layers, parameters: { total }, bytes: { weights: 2 * total } },
});
const before = size(30, 134_515_008);
const after = size(23, 109_736_640);

test('layers, parameters and bytes before and after', () => {
  assert.equal(formatBeforeAfter({}, before, after).split('\n'), [
    '        layers         parameters            weights',
    'before      30            134.5 M            257 MiB',
    'after       23  109.7 M (-18.4 %)  209 MiB (-18.4 %)',
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
  assert.match(rows[0]!, /^ +wiki\.txt$/);
  assert.match(rows[1]!, /perplexity +KL$/);
  assert.match(rows[2]!, /^before .* 17\.31$/);
  assert.match(rows[3]!, /^removal alone .* 48\.50 +1\.03$/);
  assert.match(rows[4]!, /^after .* 21\.25 +0\.200$/);
});

test('what to do next can be pasted into a shell', () => {
  assert.is(
    nextSteps('./my model', "it's", {}),
    "next: rm-engine chat 'it'\\''s' --against './my model'\n" +
      "      rm-engine eval 'it'\\''s' FILE... --against './my model'",
  );
});

test.run();
