/**
 * A plan's operations are those that a run does: the operations of every dispatch, counted by the profiler, are within 10 % of
 * the plan in every phase. Synthetic model of 8 layers, some seconds.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeSyntheticCheckpoint } from '../../bench/syntheticCheckpoint.js';
import { Device } from '../../engine/index.js';
import { type PruneOptions, planPrune, prune } from '../../replaceme/index.js';
import { saySkipped, temporaryFolder } from '../support.js';

const folder = temporaryFolder();
const [model, calibration] = [join(folder.path, 'model'), join(folder.path, 'texts.jsonl')];
await writeSyntheticCheckpoint(model, { layers: 8, hidden: 128, intermediate: 384, heads: 4, kvHeads: 2 });
// Every text fills its sequence: the plan knows their length, not how many are shorter.
const text = (d: number) =>
  Array.from({ length: 40 }, (_, i) => `${(d * 7919 + i * 104_729) % 9973}`).join(' ');
writeFileSync(
  calibration,
  Array.from({ length: 80 }, (_, d) => `${JSON.stringify({ text: text(d) })}\n`).join(''),
);

const phases = ['select', 'fit', 'heal', 'evaluate'];

/** Operations recorded by phase, outermost sections first. */
async function recorded({ profiler }: Device): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  for (const { section, kernels } of await profiler!.sections()) {
    const path = section.split('/');
    const phase = path[0] === 'fit' && path.includes('heal') ? 'heal' : path[0]!;
    for (const { flops } of kernels) sums.set(phase, (sums.get(phase) ?? 0) + flops);
  }
  return sums;
}

const shared: PruneOptions = {
  ...{ calibration: [calibration], checkpoint: false },
  ...{ tokens: 4096, sequenceLength: 128, batchTokens: 512, report: 'none' },
};
const two = { layers: 2 };
const first = { ...two, window: 3 };
const runs: readonly (readonly [name: string, options: PruneOptions, together?: readonly string[]])[] = [
  ['refit at a window', { method: 'refit', ...first }],
  ['refit of two windows', { method: 'refit', remove: [3, 6] }],
  ['refit-heal', { method: 'refit-heal', ...first }],
  [
    'replaceme-ls with healing of o_proj',
    { method: 'replaceme-ls', heal: { closedForm: 'o-proj' }, ...first },
  ],
  [
    'a report',
    { method: 'refit', ...first, report: 'full', evaluation: [calibration], evaluationTokens: 1024 },
  ],
  ['cosine', { ...two, method: 'replaceme-ls', select: 'cosine' }, ['select']],
  ['measured', { ...two, method: 'refit' }, ['select']],
];

for (const [name, options, only = phases] of runs) {
  test(`operations: ${name}`, async () => {
    await using device = await Device.open({ profile: true });
    if (!device.profiler) return saySkipped('this adapter has no timestamp queries');
    const all = { ...shared, ...options, device };
    const plan = await planPrune(model, all);
    const before = await recorded(device);
    await prune(model, join(folder.path, name.replaceAll(' ', '-')), all);
    const counted = await recorded(device);
    for (const { name: phase, flops } of plan.phases) {
      if (!only.includes(phase) || flops === 0) continue;
      const real = counted.get(phase)! - (before.get(phase) ?? 0);
      const ratio = flops / real;
      assert.ok(ratio > 0.9 && ratio < 1.1, `${phase}: ${flops} planned, ${real} recorded: ${ratio}`);
    }
  });
}

test.after(() => folder[Symbol.dispose]());

test.run();
