import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Child } from '../../bench/peers/child.js';
import { type Entrant, measure } from '../../bench/peers/measure.js';
import { repeatsFor } from '../../bench/peers/serve.js';
import {
  checkResult,
  type MatmulTask,
  matmulInputs,
  mlpInputs,
  workOf,
} from '../../bench/peers/workloads.js';

/** A program that answers by the protocol with fixed times, after noise as native libraries make it. */
const fake = (name: string, role: Entrant['role'], body: string): Entrant => ({
  name,
  role,
  child: new Child(process.execPath, [
    '-e',
    `require('node:readline').createInterface({ input: process.stdin }).on('line', line => {
      const { prepare, sample } = JSON.parse(line);
      const say = reply => console.log('noise\\n@peers ' + JSON.stringify(reply));
      ${body}
    });`,
  ]),
});
const steady = (milliseconds: number) =>
  `say(prepare ? { version: '1', repeats: 3 } : { milliseconds: sample * ${milliseconds} });`;

const task: MatmulTask = { task: 'matmul', m: 100, n: 100, k: 100 };

test('median rates, ratio to the best peer, outside apart, failures reported', async () => {
  const entrants = [
    fake('ours', 'ours', steady(1)),
    fake('slow', 'peer', steady(8)),
    fake('fast', 'peer', steady(4)),
    fake('broken', 'peer', "say({ error: 'no adapter' });"),
    fake(
      'mortal',
      'peer',
      `if (prepare) ${steady(1)} else { console.error('error: out of luck'); process.exit(3); }`,
    ),
    { name: 'absent', role: 'peer' as const, child: new Child('no-such-program', []) },
    fake('cpu', 'outside', steady(0.1)),
  ];
  const failures: Record<string, string> = {};
  const result = await measure(task, entrants, {
    samples: 7,
    warmups: 1,
    onFailure: ({ name }, reason) => {
      failures[name] = reason;
    },
  });
  await Promise.all(entrants.map(({ child }) => child.close()));
  assert.equal(workOf(task), 0.002);
  assert.equal(result, { ours: 2, peers: { slow: 0.25, fast: 0.5 }, ratio: 4, outside: { cpu: 20 } });
  assert.equal(failures.broken, 'no adapter');
  assert.equal(failures.mortal, 'ended with exit code 3: error: out of luck');
  assert.match(failures.absent!, 'ENOENT');
});

test('without a peer there is no ratio', async () => {
  const entrants = [fake('ours', 'ours', steady(2))];
  const result = await measure(task, entrants, { samples: 1, warmups: 1, onFailure: () => {} });
  await entrants[0]!.child.close();
  assert.equal(result, { ours: 1, peers: {}, ratio: null, outside: {} });
});

test('results are checked: right ones pass, a wrong element does not', () => {
  const small: MatmulTask = { task: 'matmul', m: 5, n: 7, k: 3 };
  const { a, b } = matmulInputs(small);
  const product = Array.from({ length: 35 }, (_, i) => {
    const [row, column] = [Math.floor(i / 7), i % 7];
    return [0, 1, 2].reduce((sum, k) => sum + a[row * 3 + k]! * b[k * 7 + column]!, 0);
  });
  const changed = (at: number, value: number) => product.map((old, i) => (i === at ? value : old));
  checkResult(small, product);
  assert.throws(() => checkResult(small, changed(34, product[34]! + 0.01)), /row 4, column 6/);
  assert.throws(() => checkResult(small, changed(0, Number.NaN)), /row 0, column 0/);
});

test('the check of the MLP block agrees with the block written out', () => {
  const block = { task: 'mlp', tokens: 3, hidden: 4, intermediate: 5 } as const;
  const { x, gain, gate, up, down } = mlpInputs(block);
  const out: number[] = [];
  for (let t = 0; t < 3; t++) {
    const row = [0, 1, 2, 3].map(i => x[t * 4 + i]!);
    const rms = Math.hypot(...row, Math.sqrt(4 * 1e-5)) / 2;
    const z = row.map((value, i) => (value / rms) * gain[i]!);
    const dot = (matrix: Float32Array, column: number) =>
      z.reduce((sum, v, i) => sum + v * matrix[i * 5 + column]!, 0);
    const h = [0, 1, 2, 3, 4].map(f => (dot(gate, f) / (1 + Math.exp(-dot(gate, f)))) * dot(up, f));
    for (let c = 0; c < 4; c++) out.push(h.reduce((sum, v, f) => sum + v * down[f * 4 + c]!, 0));
  }
  checkResult(block, out);
  assert.throws(
    () =>
      checkResult(
        block,
        out.map(value => value * 1.01),
      ),
    /wrong result/,
  );
});

test('a sample takes about 0.3 s, with two runs at least', () => {
  assert.equal([1000, 150, 10, 0.1].map(repeatsFor), [2, 2, 30, 64]);
});

test.run();
