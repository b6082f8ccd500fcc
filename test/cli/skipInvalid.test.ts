import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { LeftOutRows } from '../../model/text/leftOut.js';
import type { EvalReport, PruneReport } from '../../replaceme/report/schema/schema.js';
import { temporaryFolder } from '../support.js';
import { writeTinyModel } from '../tinyModel.js';
import { rmEngine } from './support.js';

// Rows that cannot be used: named, or left out and counted at the end and in reports. Three small runs on a device.

const folder = temporaryFolder();
test.after(() => folder[Symbol.dispose]());
const path = (name: string) => join(folder.path, name);
const words = 'All work and no play makes Jack a dull boy. ';
const bad = path('bad.jsonl');

test.before(async () => {
  mkdirSync(path('model'));
  await writeTinyModel(path('model'));
  const rows = Array.from({ length: 30 }, (_, i) => JSON.stringify({ text: `${i} ${words.repeat(2)}` }));
  rows[4] = 'oops';
  rows[6] = '{"text": null}';
  rows[8] = '{"conversations": [{"from": "martian", "value": "x"}]}';
  writeFileSync(bad, rows.join('\n'));
});

const schema = JSON.parse(
  readFileSync(fileURLToPath(new URL('../../../docs/report.schema.json', import.meta.url)), 'utf8'),
);
const ajv = new Ajv2020({ strict: false });
const validate: (report: unknown) => unknown = ajv.compile(schema);
const leftOut = { empty: 1, invalid: 2, firstInvalid: /bad\.jsonl:5: not JSON/ };

function checkReport<Report extends EvalReport | PruneReport>(
  folder: string,
  find: (report: Report) => { readonly leftOut?: LeftOutRows },
): void {
  const report = JSON.parse(readFileSync(join(folder, 'report.json'), 'utf8')) as Report;
  assert.ok(validate(report), 'report.json follows its schema');
  const { firstInvalid, ...counts } = find(report).leftOut!;
  assert.equal(counts, { empty: leftOut.empty, invalid: leftOut.invalid });
  assert.match(firstInvalid!, leftOut.firstInvalid);
  assert.ok(report.warnings.some(warning => /2 rows that cannot be used/.test(warning)));
}

test('the first row that cannot be used is named, and how to leave it out', async () => {
  const { status, stderr } = await rmEngine(['eval', path('model'), bad]);
  assert.is(status, 1);
  assert.match(stderr, /error: not JSON.*\n *where: .*bad\.jsonl:5, in rm-engine eval\n/);
  assert.match(stderr, /leave such rows out: --skip-invalid\./);
});

test('eval and prune leave it out and say how many', async () => {
  const report = path('evaluated');
  const args = ['eval', path('model'), bad, '--skip-invalid', '--report', report];
  const evaluated = await rmEngine(args);
  assert.is(evaluated.status, 0, evaluated.stderr);
  assert.match(evaluated.stderr, /warning: .*bad\.jsonl: 2 rows that cannot be used were left out/);
  assert.match(evaluated.stderr.replace(/\s+/g, ' '), /bad\.jsonl: 1 row without text was left out/);
  assert.match(evaluated.stderr, /bad\.jsonl: 27 texts, joined by empty lines/);
  checkReport<EvalReport>(report, ({ files }) => files[0]!);
  const out = path('pruned');
  const pruned = await rmEngine([
    ...['prune', path('model'), out, '--layers', '1', '--method', 'replaceme-ls', '--report', 'none'],
    ...['--calib', bad, '--skip-invalid'],
  ]);
  assert.is(pruned.status, 0, pruned.stderr);
  assert.match(pruned.stderr, /warning: .*bad\.jsonl: 2 rows that cannot be used were left out/);
  checkReport<PruneReport>(out, ({ calibration }) => calibration.files[0]!);
});

test.run();
