import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatWindows } from '../../cli/profile.js';
import { windowHeatMap } from '../../replaceme/heatMap.js';
import { shippedPath, type WindowMeasure } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';
import { ownCache, rmEngine } from './support.js';

const demo = shippedPath('demo-model');

const windows: WindowMeasure[] = [
  { layer: 0, count: 1, cosine: 0.2, residual: 0.05, unexplained: 0.25 },
  { layer: 1, count: 1, cosine: 0.1, residual: 0.08, unexplained: 0.5 },
  { layer: 2, count: 1, cosine: 0.3, residual: 0.09, unexplained: 1 },
  { layer: 0, count: 2, cosine: 0.4, residual: 0.5, unexplained: 0.75 },
  { layer: 1, count: 2, cosine: 0.6, residual: 0.7, unexplained: 0.75 },
];
const map = { layers: 4, tokens: 100, windows };

test('the table: the nearest window and the one of least residual of every count', () => {
  assert.is(
    formatWindows(map),
    [
      'removed  keep  remove  cosine  residual  explained  least',
      '      1     1  2       0.1000    0.0800       50 %  cosine',
      '      1     0  1       0.2000    0.0500       75 %  residual',
      '      2     0  1..2    0.4000    0.5000       25 %  cosine, residual',
      'Windows of 4 layers, counted from 0.',
      '',
    ].join('\n'),
  );
});

test('the table of counts that were asked for: the nearest windows in order', () => {
  const rows = formatWindows(map, [1]).split('\n').slice(1, -2);
  assert.equal(
    rows.map(row => row.trim().split(/ +/)[1]),
    ['1', '0', '2'],
  );
});

test('the heat map: a cell for every window, the least of each row framed, darkest where nearest', () => {
  const svg = windowHeatMap(map, { title: 'a <b> & "c"' });
  assert.is(svg.match(/<title>keep /g)!.length, windows.length);
  assert.match(svg, /a &#60;b&#62; &#38; &#34;c&#34;/);
  const cell = (layer: number, count: number) =>
    new RegExp(
      `<rect x="(\\d+)" y="(\\d+)"[^>]* fill="(#[0-9a-f]{6})"><title>keep ${layer}, remove ${count === 1 ? layer + 1 : `${layer + 1}\\.\\.${layer + count}`}:`,
    ).exec(svg)!;
  assert.is(cell(1, 1)[3], '#440154');
  assert.is(cell(1, 2)[3], '#fde725');
  const framed = [...svg.matchAll(/class="best" x="([\d.]+)" y="([\d.]+)"/g)].map(([, x, y]) => [+x!, +y!]);
  const expected = [cell(1, 1), cell(0, 2)].map(([, x, y]) => [Number(x) + 1.5, Number(y) + 1.5]);
  assert.equal(framed, expected);
  assert.is(windowHeatMap(map, { measure: 'residual' }).match(/held-out residual/g)!.length, 2);
});

test('profile: table, JSON and pictures of the demo model', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const args = ['profile', demo, '--tokens', '600', '--sequence-length', '64'];
  const out = join(folder.path, 'map');
  const svg = join(folder.path, 'map.svg');
  const { status, stdout, stderr } = await rmEngine([...args, '--json', '--out', out, '--svg', svg], { env });
  assert.is(status, 0, stderr);
  const { layers, windows: all, tokens, calibration } = JSON.parse(stdout);
  assert.is(all.length, (layers * (layers - 1)) / 2);
  assert.ok(tokens > 0 && calibration.length > 0);
  for (const { cosine, residual } of all) assert.ok(cosine > 0 && residual > 0);
  assert.equal(JSON.parse(readFileSync(join(out, 'windows.json'), 'utf8')).windows, all);
  assert.match(readFileSync(join(out, 'residual.svg'), 'utf8'), /demo-model: held-out residual/);
  assert.is(readFileSync(svg, 'utf8'), readFileSync(join(out, 'cosine.svg'), 'utf8'));

  const refused = await rmEngine([...args, '--svg', svg, '--json'], { env });
  assert.is(refused.status, 1);
  assert.is(JSON.parse(refused.stdout).error.code, 'OUTPUT_EXISTS');
  const table = await rmEngine([...args, '--layers', '2'], { env });
  assert.is(table.status, 0, table.stderr);
  assert.match(table.stdout, /^ +2 +\d+ +\d+\.\.\d+ +0\.\d{4}/m);
  assert.not.match(table.stdout, /^ +1 /m);
  const long = await rmEngine([...args, '--layers', `${layers}`], { env });
  assert.match(long.stderr, /windows of \d+ layers in a model of \d+/);
});

test.run();
