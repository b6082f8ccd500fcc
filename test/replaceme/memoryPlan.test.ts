import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { RmError } from '../../engine/index.js';
import { compare, type PruneOptions, planPrune, prune } from '../../replaceme/index.js';
import { temporaryFolder } from '../support.js';

/** Words in an order without a pattern, so that no two batches are the same. */
function texts(documents: number): string {
  const words = 'rivers and mountains near old towns where bread or salt is sold by kind people'.split(' ');
  const word = (i: number) => words[(Math.imul(i, 2654435761) >>> 7) % words.length];
  const text = (d: number) => Array.from({ length: 60 }, (_, i) => word(60 * d + i)).join(' ');
  return Array.from({ length: documents }, (_, d) => `${JSON.stringify({ text: text(d) })}\n`).join('');
}

/** The least memory limit, to 2 %, under which a run is accepted. */
async function leastLimit(model: string, options: PruneOptions): Promise<number> {
  const fits = (memoryLimit: number) =>
    planPrune(model, { ...options, memoryLimit }).then(
      () => true,
      () => false,
    );
  let [low, high] = [2 ** 20, 2 ** 28];
  while (high / low > 1.02) {
    const between = Math.round(Math.sqrt(low * high));
    if (await fits(between)) high = between;
    else low = between;
  }
  return high;
}

/** Selections that run whole models, or layer by layer; some change whole layers, one trains all weights, one has sequences that are longer than a batch. */
const runs: PruneOptions[] = [
  ...['plain', 'refit', 'sleb', 'laco', 'prune-and-comp'].map(method => ({ method })),
  {
    method: 'replaceme-ls',
    select: 'cosine',
    heal: { gradient: { train: 'full', steps: 2, batchTokens: 256 } },
  },
  { method: 'replaceme-ls', select: 'cosine', batchTokens: 32 },
];

/** A synthetic model and texts for it. */
async function workplace() {
  const folder = temporaryFolder();
  const [model, calibration] = [join(folder.path, 'model'), join(folder.path, 'texts.jsonl')];
  await writeSyntheticCheckpoint(model, {
    ...{ layers: 6, hidden: 192, intermediate: 768, heads: 4, kvHeads: 2 },
  });
  writeFileSync(calibration, texts(48));
  const wanted = {
    ...{ calibration: [calibration], evaluation: [calibration] },
    ...{ tokens: 1024, sequenceLength: 128, batchTokens: 256, evaluationTokens: 256 },
  };
  return { ...folder, model, wanted };
}

test('the peak is within 10 % of the plan, and a limit that is accepted is kept', async () => {
  using place = await workplace();
  const { model } = place;
  for (const run of runs) {
    const { method, heal, batchTokens } = run;
    const wanted: PruneOptions = { layers: 2, ...place.wanted, ...run };
    const limit = await leastLimit(model, wanted);
    for (const memoryLimit of [undefined, limit]) {
      const out = join(place.path, `${method}-${batchTokens}-${memoryLimit}`);
      const options = { ...wanted, ...(memoryLimit !== undefined && { memoryLimit }) };
      const { plan, peakMemoryBytes } = await prune(model, out, options);
      const share = peakMemoryBytes / plan!.memory.total;
      const { weights, states } = plan!.placement;
      const told = `${method}${heal ? ', healing' : ''}, ${weights}, states on the ${states.place}: ${share.toFixed(3)} of the plan`;
      console.log(told);
      assert.ok(Math.abs(share - 1) < 0.1, told);
      if (memoryLimit !== undefined) assert.ok(peakMemoryBytes <= memoryLimit, told);
    }
  }
});

test('batches that are proposed fit, and so do sequences', async () => {
  using place = await workplace();
  const wanted: PruneOptions = { layers: 2, method: 'replaceme-ls', ...place.wanted };
  const usual = { sequenceLength: 512, batchTokens: 128 };
  const memoryLimit = Math.round((await leastLimit(place.model, { ...wanted, ...usual })) * 0.8);
  const refused = () => planPrune(place.model, { ...wanted, ...usual, memoryLimit });
  const refusal = await refused().catch((error: RmError) => error);
  assert.instance(refusal, RmError);
  const [, length] = /^Use `sequenceLength: (\d+)`; or raise `memoryLimit`/.exec((refusal as RmError).fix)!;
  const less = { ...usual, sequenceLength: Number(length) };
  const out = join(place.path, 'pruned');
  const { peakMemoryBytes } = await prune(place.model, out, { ...wanted, ...less, memoryLimit });
  assert.ok(peakMemoryBytes <= memoryLimit, `${peakMemoryBytes} of ${memoryLimit}`);
});

test('a comparison says which limit it needs, and keeps to it', async () => {
  using place = await workplace();
  const out = join(place.path, 'compared');
  const wanted = {
    layers: [1, 2],
    methods: ['plain', 'refit', 'sleb', 'prune-and-comp'],
    ...place.wanted,
    out,
  };
  const units = { K: 2 ** 10, M: 2 ** 20 };
  let memoryLimit = 2 ** 20;
  for (;;) {
    const found = await compare(place.model, { ...wanted, memoryLimit }).catch((error: RmError) => error);
    if (!(found instanceof RmError)) {
      assert.is(found.rows.length, 8);
      // Under so little memory the layers come in turn; this method reads several at a time.
      const refused = found.rows.filter(row => 'refused' in row).map(row => row.method);
      assert.equal([...new Set(refused)], ['prune-and-comp']);
      assert.ok(found.peakMemoryBytes <= memoryLimit, `${found.peakMemoryBytes} of ${memoryLimit}`);
      return;
    }
    assert.is(found.code, 'OUT_OF_MEMORY');
    const [, size, unit] = /raise `memoryLimit` to ([0-9.]+) ([KM])iB/i.exec(found.fix)!;
    // What is printed is rounded.
    const needed = 1.005 * Number(size) * units[unit as 'K' | 'M'];
    assert.ok(needed > memoryLimit, 'a row that needs more than those before');
    memoryLimit = Math.ceil(needed);
  }
});

test.run();
