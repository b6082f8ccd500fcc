/** The sentences of a verdict, word by word. Host code; no time at all. */
import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { onCommandLine } from '../../cli/terminal/failure.js';
import type { PruneEvaluation } from '../../replaceme/evaluation/pruneEvaluation.js';
import { bands, damageWarnings, type VerdictFacts, verdictOf } from '../../replaceme/evaluation/verdict.js';

interface Measured {
  readonly kl: number;
  readonly top1?: number;
  readonly plain?: number;
  /** Repetition of the original's samples and of the result's. */
  readonly repeats?: readonly [number, number];
}

/** Two texts of 100 and 300 tokens; the second has all of the damage. */
const evaluation = ({ kl, top1 = 0.5625, plain, repeats }: Measured): PruneEvaluation =>
  ({
    texts: [{ tokens: 100 }, { tokens: 300 }],
    models: (
      [['dense', 0, 1], ...(plain === undefined ? [] : [['plain', plain, 0.3]]), ['result', kl, top1]] as [
        string,
        number,
        number,
      ][]
    ).map(([role, of, agrees]) => ({
      role,
      eval: [
        { kl: 0, top1: 1 },
        { kl: (of * 4) / 3, top1: (agrees * 4 - 1) / 3 },
      ],
    })),
    samples: repeats
      ? [
          {
            continuations: [
              { model: 'dense', repetition: repeats[0] },
              { model: 'plain', repetition: 0.9 },
              { model: 'result', repetition: repeats[1] },
            ],
          },
        ]
      : [],
  }) as unknown as PruneEvaluation;

const facts: VerdictFacts = {
  ...{ removed: 7, method: 'refit', better: 'refit-heal', files: 2, sameTexts: false },
  fit: { tokens: 4096, unknowns: 1536 },
};
const enough = { ...facts, fit: { tokens: 24_576, unknowns: 1536 } };

const said = (measured: Measured, of: VerdictFacts = facts) =>
  onCommandLine(verdictOf(evaluation(measured), of).sentence, 'rm-engine prune');

test('a model that is badly damaged, with all that may help', () => {
  assert.is(
    said({ kl: 0.92, plain: 1.2, repeats: [0.1, 0.6] }),
    'KL 0.92: badly damaged (it repeats itself; the same next token in 56 % of places). ' +
      'Try more --calib (4,096 tokens is little for 7 layers), --method refit-heal, or 4 layers.',
  );
});

test('only what may help is advised', () => {
  const start = 'KL 0.40: clearly damaged (the same next token in 56 % of places).';
  assert.is(said({ kl: 0.4 }, enough), `${start} Try --method refit-heal or 4 layers.`);
  assert.is(said({ kl: 0.4 }, { ...enough, better: undefined }), `${start} Try 4 layers.`);
  const { fit: _, ...plain } = facts;
  assert.is(said({ kl: 0.4, plain: 0.4 }, plain), `${start} Try --method refit-heal or 4 layers.`, 'plain');
  assert.is(said({ kl: 0.4 }, { ...enough, better: undefined, removed: 1 }), start, 'nothing is left to try');
});

test('a model that is hardly changed needs nothing', () => {
  assert.is(
    said({ kl: 0.06, top1: 0.81 }),
    'KL 0.06: hardly changed (the same next token in 81 % of places).',
  );
  assert.is(
    said({ kl: 0.00137, top1: 0.97 }),
    'KL 0.001: hardly changed (the same next token in 97 % of places).',
  );
  assert.match(
    said({ kl: 0.06, repeats: [0, 0.8] }),
    /^KL 0\.06: hardly changed \(it repeats itself; .*\)\. Try more/,
  );
});

test('a repair that is worth nothing is said to be so', () => {
  assert.is(
    said({ kl: 1.1, plain: 1.04 }),
    'KL 1.10: badly damaged (the same next token in 56 % of places). Removing layers without repair does no worse ' +
      '(KL 1.04): use --method plain, or fit on other texts.',
  );
});

test('every KL has a band', () => {
  const bandOf = (kl: number) => verdictOf(evaluation({ kl }), facts).band;
  for (const [b, [band, below]] of bands.entries()) {
    if (!Number.isFinite(below)) assert.is(bandOf(1e9), band);
    else assert.equal([bandOf(below * 0.999), bandOf(below * 1.001)], [band, bands[b + 1]![0]]);
  }
  const { kl, top1, plainKl } = verdictOf(evaluation({ kl: 0.5, plain: 0.75 }), facts);
  assert.equal([kl, top1, plainKl], [0.5, 0.5625, 0.75]);
});

test('what to know before trusting the model', () => {
  assert.equal(damageWarnings(evaluation({ kl: 0.1 }), enough), []);
  assert.equal(
    damageWarnings(evaluation({ kl: 0.1, repeats: [0.1, 0.6] }), { ...facts, files: 1, sameTexts: true }),
    [
      '4,096 calibration tokens is little: each regression has 1,536 unknowns, and 15,360 tokens or more fit it better',
      'calibrated and measured on one file alone: on other kinds of text the damage may be larger (`evaluation` measures it)',
      'the pruned model repeats itself in the samples of the report, and the original does not',
    ],
  );
  assert.equal(damageWarnings(undefined, { ...enough, files: 1, sameTexts: true }), []);
  assert.is(damageWarnings(undefined, facts).length, 1, 'without an evaluation too');
});

/** KL, top-1 in percent, and perplexity times the original's, of every row of the tables of methods. */
function measuredRows(text: string): [kl: number, top1: number, perplexity: number][] {
  const rows: [number, number, number][] = [];
  let dense: string[] = [];
  for (const line of text.split('\n')) {
    const cells = line
      .split('|')
      .slice(1, -1)
      .map(cell => cell.trim());
    if (cells[0] === 'dense') dense = cells;
    if (cells.length < 9 || !/^\d/.test(cells[3]!) || cells[0] === 'dense') continue;
    for (let c = 3; c + 2 < cells.length; c += 3) {
      if (!cells[c + 2]!.endsWith('%')) continue;
      rows.push([
        Number(cells[c + 1]),
        Number.parseFloat(cells[c + 2]!),
        Number(cells[c]) / Number(dense[c]),
      ]);
    }
  }
  return rows;
}

test('the bands of docs/results.md are what its tables say', () => {
  const text = readFileSync(new URL('../../../docs/results.md', import.meta.url), 'utf8');
  const rows = measuredRows(text).filter(([kl]) => kl < 15);
  for (const [b, [band, below]] of bands.entries()) {
    const above = b === 0 ? 0 : bands[b - 1]![1];
    const inBand = rows.filter(([kl]) => kl >= above && kl < below);
    const range = (column: 1 | 2, digits: number) =>
      [Math.min, Math.max].map(of => of(...inBand.map(row => row[column])).toFixed(digits)).join(' to ');
    const row = `| ${band} | ${inBand.length} | ${range(1, 1)} % | ${range(2, 2)} |`;
    assert.ok(text.includes(row), row);
  }
});

test.run();
