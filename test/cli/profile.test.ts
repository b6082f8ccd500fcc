import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatWindows } from '../../cli/profile.js';
import { shippedPath, type WindowMeasure } from '../../replaceme/index.js';
import { windowHeatMap } from '../../replaceme/report/page/heatMap.js';
import { heatColours } from '../../replaceme/report/page/palette.js';
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

test('the table with swaps: the most that one costs within each window', () => {
  const swaps = [0.25, 1.5, 0.125].map((kl, layer) => ({ layer, kl }));
  const rows = formatWindows({ ...map, swaps }, [1, 2]).split('\n');
  assert.match(rows[0]!, /explained +swap KL +least$/);
  const costs = rows.slice(1, -2).map(row => {
    const [, keep, remove] = row.trim().split(/ +/);
    return [keep, remove, /% +(\d\.\d{4})/.exec(row)![1]];
  });
  assert.equal(costs, [
    ['1', '2', '1.5000'],
    ['0', '1', '0.2500'],
    ['2', '3', '0.1250'],
    ['0', '1..2', '1.5000'],
    ['1', '2..3', '1.5000'],
  ]);
});

test('the table of counts that were asked for: the nearest windows in order', () => {
  const rows = formatWindows(map, [1]).split('\n').slice(1, -2);
  assert.equal(
    rows.map(row => row.trim().split(/ +/)[1]),
    ['1', '0', '2'],
  );
});

test('the heat map: a cell for every window, strongest where nearest, and a frame in each row', async () => {
  const svg = await windowHeatMap(map, { title: 'a <b> & "c"' });
  assert.is(svg.match(/<title>keep /g)!.length, windows.length);
  assert.match(svg, /a &lt;b&gt; &amp; &quot;c&quot;/);
  const cell = (layer: number, count: number) => {
    const removed = count === 1 ? `${layer + 1}` : `${layer + 1} to ${layer + count}`;
    return new RegExp(
      `<path d="(M[\\d.,]+)[^>]* fill="(#[0-9a-f]{6})"[^>]*><title>keep ${layer}, remove ${removed}:`,
    ).exec(svg)!;
  };
  assert.is(cell(1, 1)[2], heatColours[0]!.light);
  assert.is(cell(1, 2)[2], heatColours.at(-1)!.light);
  // Framed twice, in the ground's colour and in ink: the least of each row.
  const framed = [...svg.matchAll(/<path d="(M[\d.,]+)[^>]* stroke-width="1.5"\/>/g)].map(([, from]) => from);
  assert.equal(framed, [cell(1, 1)[1], cell(0, 2)[1]]);
  for (const { dark } of heatColours) assert.ok(svg.includes(dark), 'colours for dark ground');
  assert.not.match(svg, /undefined|NaN/);
  assert.match(await windowHeatMap(map, { measure: 'residual' }), /held-out residual/);
  assert.match(await windowHeatMap({ ...map, windows: windows.slice(0, 1) }), /keep 0, remove 1:/);
});

test('profile: table, JSON and pictures of the demo model', async () => {
  using folder = temporaryFolder();
  const env = ownCache(folder.path);
  const args = ['profile', demo, '--tokens', '600', '--sequence-length', '64'];
  const out = join(folder.path, 'map');
  const svg = join(folder.path, 'map.svg');
  const { status, stdout, stderr } = await rmEngine([...args, '--json', '--out', out, '--svg', svg], { env });
  assert.is(status, 0, stderr);
  const { layers, windows: all, swaps, tokens, calibration } = JSON.parse(stdout);
  assert.is(all.length, (layers * (layers - 1)) / 2);
  assert.ok(tokens > 0 && calibration.length > 0);
  for (const { cosine, residual } of all) assert.ok(cosine > 0 && residual > 0);
  assert.equal(
    swaps.map(({ layer }: { layer: number }) => layer),
    Array.from({ length: layers - 1 }, (_, layer) => layer),
  );
  for (const { kl } of swaps) assert.ok(kl > 0);
  const stored = JSON.parse(readFileSync(join(out, 'windows.json'), 'utf8'));
  assert.equal([stored.windows, stored.swaps], [all, swaps]);
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
