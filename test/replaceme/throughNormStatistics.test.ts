/** Sums of fits behind a norm, kept for later runs and added up in parts. Costs 6 s. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import { convert } from '../../kernels/index.js';
import { Model } from '../../model/index.js';
import type { RepairContext } from '../../replaceme/fits/repair.js';
import { methodNamed } from '../../replaceme/methods/index.js';
import type { StatisticsStore, Sums, SumsKey } from '../../replaceme/statistics/statisticsStore.js';
import { familyData } from '../familyData.js';
import { relativeError } from '../gpu.js';
import { familySequences } from './prunedFamily.js';
import { plainBatches, repairContext } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

interface Held {
  readonly shapes: Record<string, readonly number[]>;
  readonly values: Record<string, Float32Array>;
  readonly numbers: Sums['numbers'];
}

const sum = <T extends { map(add: (value: number, i: number) => number): T; [i: number]: number }>(
  a: T,
  b: T,
): T => a.map((value, i) => value + b[i]!);

/** A statistics file in memory; parts with the same key are added up. */
class MemoryStore implements StatisticsStore {
  readonly held = new Map<string, Held>();

  has(key: SumsKey): boolean {
    return this.held.has(JSON.stringify(key));
  }
  async get(key: SumsKey, scope: Scope): Promise<Sums | undefined> {
    const found = this.held.get(JSON.stringify(key));
    if (!found) return undefined;
    const tensors = Object.entries(found.values).map(
      ([name, values]) => [name, scope.own(tensorFrom(device, values, found.shapes[name]!))] as const,
    );
    return { tensors: Object.fromEntries(tensors), numbers: found.numbers };
  }
  async put(key: SumsKey, { tensors, numbers }: Sums): Promise<void> {
    const shapes = Object.fromEntries(Object.entries(tensors).map(([name, { shape }]) => [name, shape]));
    const values: Record<string, Float32Array> = {};
    for (const [name, tensor] of Object.entries(tensors)) values[name] = await downloadF32(tensor);
    const before = this.held.get(JSON.stringify(key));
    if (before) {
      for (const [name, part] of Object.entries(before.values)) values[name] = sum(values[name]!, part);
    }
    const added = Object.entries(numbers).map(([name, part]) => [name, part + (before?.numbers[name] ?? 0)]);
    this.held.set(JSON.stringify(key), { shapes, values, numbers: Object.fromEntries(added) });
  }
  distances = (): undefined => undefined;
  putDistances = async (): Promise<void> => {};
}

const windows = [{ layer: 1, count: 1 }];

/** New weights in f32, by name. */
async function repaired(method: string, context: RepairContext): Promise<Map<string, Float32Array>> {
  const { changes } = await methodNamed(method).repair(context, windows);
  const found = new Map<string, Float32Array>();
  for (const weights of changes.layers?.values() ?? []) {
    for (const [name, tensor] of Object.entries(weights) as [string, Tensor][]) {
      using _ = tensor;
      using wide = tensorFrom(device, new Float32Array(tensor.size), tensor.shape);
      convert(device.recorder, tensor, wide);
      found.set(name, await downloadF32(wide));
    }
  }
  return found;
}

for (const family of ['olmo2', 'gemma3']) {
  for (const method of ['refit', 'replaceme-ls']) {
    test(`${family}, ${method}: the same weights from kept sums, and from sums of two parts`, async () => {
      await using model = await Model.load(device, (await familyData(family)).folder);
      const batches = plainBatches(familySequences, 256);
      const settings = { alpha: 0.1, attentionStep: 0.5 };
      const statistics = new MemoryStore();
      const context = repairContext(model, batches, settings);
      const single = await repaired(method, { ...context, statistics });
      assert.ok(single.size > 0);
      // Without tokens, only the kept sums are left to fit.
      const kept = await repaired(method, { ...context, statistics });
      for (const [name, values] of single) assert.equal(kept.get(name), values, name);

      let earlier = new MemoryStore();
      for (let round = 0; ; round++) {
        const into = new MemoryStore();
        const complete: boolean[] = [];
        for (const part of [batches.slice(0, 3), batches.slice(3)]) {
          const { accumulate } = methodNamed(method);
          complete.push(await accumulate!({ ...context, batches: part, statistics: earlier, into }, windows));
        }
        if (into.held.size === 0) break;
        earlier = Object.assign(new MemoryStore(), { held: new Map([...earlier.held, ...into.held]) });
        assert.ok(round < 9);
        assert.equal(complete, [false, false]);
      }
      const parts = await repaired(method, { ...context, statistics: earlier });
      for (const [name, values] of single) assert.ok(relativeError(parts.get(name)!, values) < 1e-3, name);
    });
  }
}

test.run();
