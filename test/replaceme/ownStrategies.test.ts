// Methods and selections of a caller's own. Costs 5 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, Tensor } from '../../engine/index.js';
import {
  checkPruneRequest,
  type Method,
  methods,
  prune,
  type Selection,
  selections,
} from '../../replaceme/index.js';
import { rejectsWith } from '../gpu.js';
import { options, workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

const plain = methods.find(({ name }) => name === 'plain')!;
const own: Method = { ...plain, name: 'mine', summary: 'a test', source: 'here', selection: 'fixed' };
const fixed: Selection = {
  ...{ name: 'fixed', summary: 'always the same', source: 'here' },
  select: async ({ count }) => ({ windows: [{ layer: 1, count }], by: 'choice' }),
};

test('prune takes a method and a selection as objects, and calls them by their names', async () => {
  using place = await workplace();
  const { method: _, ...others } = options(place.calibration, { report: 'none', device });
  const report = await prune(place.model, place.out, { ...others, method: own, select: fixed });
  assert.is(report.method, 'mine');
  assert.equal(report.selection.windows, [{ layer: 1, count: 2 }]);
  assert.is(report.selection.by, 'choice');
  // One of ours is its name.
  const request = await checkPruneRequest(place.model, undefined, {
    layers: 1,
    method: plain,
    select: selections[0]!,
  });
  assert.is(request.method, plain);
  assert.is(request.selection, selections[0]);
});

test('what they lack, take or return wrongly is refused, and nothing is written', async () => {
  using place = await workplace();
  const { method: _, ...others } = options(place.calibration, { report: 'none', device });
  const refused = async (change: { method?: unknown; select?: unknown }) =>
    await rejectsWith(
      () => prune(place.model, place.out, { ...others, method: own, select: fixed, ...change } as never),
      'INVALID_ARGUMENT',
    );
  assert.match(await refused({ method: { ...own, name: 'refit' } }), /called 'refit'/);
  for (const method of [null, 3, {}, []]) assert.match(await refused({ method }), /`method` is/);
  assert.match(await refused({ method: { ...own, repair: undefined } }), /repair is missing/);
  assert.match(await refused({ select: { ...fixed, select: 3 } }), /select is 3/);
  const choosing = (windows: unknown) => ({ ...fixed, select: async () => ({ windows, by: 'choice' }) });
  assert.match(await refused({ select: choosing([{ layer: 3, count: 50 }]) }), /chose the windows/);
  const returning = (result: unknown) => ({ ...own, repair: async () => result });
  assert.match(await refused({ method: returning(undefined) }), /returned no repair/);
  using tensor = Tensor.create(device, [2, 2]);
  const changing = (layer: number, o: unknown) =>
    returning({ changes: { layers: new Map([[layer, { o }]]) }, details: {} });
  assert.match(await refused({ method: changing(2, tensor) }), /layer 2, which does not stay/);
  assert.match(await refused({ method: changing(1, tensor) }), /o of layer 1 is \[2,2\], not \[32,32\]/);
  assert.match(await refused({ method: changing(1, 'o') }), /no tensor/);
  assert.equal(place.left(), ['calibration.txt', 'model']);
});

test.run();
