/** What a run learns of the time that the next one takes: plans for a card that is not here, and a clock that is made up. */
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { storedPaces } from '../../cli/device/storedPaces.js';
import { type PlanOptions, planPrune } from '../../replaceme/index.js';
import { assumedDevice } from '../../replaceme/planning/assumedDevice.js';
import { learnedPaces, type PaceStore, type Paces } from '../../replaceme/run/paces.js';
import { temporaryFolder } from '../support.js';

const demo = fileURLToPath(new URL('../../../assets/demo-model', import.meta.url));

/** Remembers in memory, and which kinds it was asked for. */
function memory(): PaceStore & { readonly asked: string[] } {
  const known = new Map<string, Paces>();
  const asked: string[] = [];
  return {
    asked,
    paces: likeness => {
      asked.push(likeness);
      return known.get(likeness);
    },
    keep: async (likeness, paces) => {
      known.set(likeness, paces);
    },
  };
}

const secondsOf = (phases: readonly { readonly seconds: number }[]) =>
  phases.reduce((sum, { seconds }) => sum + seconds, 0);

test('what took longer than planned is planned as long the next time', () => {
  const planned = [
    { name: 'select', seconds: 10 },
    { name: 'fit', seconds: 4 },
    { name: 'write', seconds: 0.0001 },
  ] as const;
  const took = [
    { name: 'calibrate', seconds: 3 },
    { name: 'select', seconds: 25 },
    { name: 'fit', seconds: 2 },
    { name: 'write', seconds: 0.1 },
  ] as const;
  const first = learnedPaces({}, planned, took);
  assert.equal(first, { select: 2.5, fit: 0.5 });
  // Planned with these paces, it takes twice as long once more.
  const again = learnedPaces(first, [{ name: 'select', seconds: 25 }], [{ name: 'select', seconds: 50 }]);
  assert.equal(again, { select: 5, fit: 0.5 });
});

test('the second plan of a kind of run says what the first run took, at any number of tokens', async () => {
  const paces = memory();
  const plan = async (tokens: number, more: PlanOptions = {}) =>
    await planPrune(demo, {
      ...{ layers: 3, method: 'refit', tokens, report: 'none', paces },
      ...{ assume: await assumedDevice('4090'), ...more },
    });
  const before = await plan(8192);
  assert.not(before.corrected);
  const slower = { load: 40, select: 7, fit: 3 } as const;
  const real = (of: typeof before) =>
    of.phases.map(({ name, seconds }) => ({ name, seconds: seconds * (slower[name as 'fit'] ?? 1) }));
  // As if the card were a million times slower, so that seconds are none of the short ones.
  const scaled = (phases: readonly { readonly name: 'fit'; readonly seconds: number }[]) =>
    phases.map(phase => ({ ...phase, seconds: 1e6 * phase.seconds }));
  await paces.keep(
    paces.asked[0]!,
    learnedPaces({}, scaled(before.phases as never), scaled(real(before) as never)),
  );
  const longer = await plan(32_768);
  assert.ok(longer.corrected);
  const bare = await plan(32_768, { paces: memory() });
  assert.ok(Math.abs(secondsOf(longer.phases) / secondsOf(real(bare)) - 1) < 1e-9);
  assert.not((await plan(8192, { method: 'plain' })).corrected, 'another method is another kind');
  assert.not((await plan(8192, { statistics: '/nowhere' })).corrected, 'kept sums save time');
});

test("paces are kept in the user's cache, the last ones of each kind", async () => {
  using folder = temporaryFolder();
  const info = { vendor: 'mesa', architecture: '', device: 'x', description: 'd' } as never;
  const said: string[] = [];
  const terminal = { warn: (text: string) => said.push(text), detail: (text: string) => said.push(text) };
  const open = () => storedPaces(info, terminal, folder.path);
  const store = await open();
  await store.keep('a', { fit: 2 });
  await (await open()).keep('b', { select: 3 });
  await store.keep('a', { fit: 4 });
  const again = await open();
  assert.equal(
    [again.paces('a'), again.paces('b'), again.paces('c')],
    [{ fit: 4 }, { select: 3 }, undefined],
  );
  assert.is(readdirSync(folder.path).length, 1);
  assert.equal(said, []);
});

test.run();
