import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { type PruneOptions, prune } from '../../replaceme/index.js';
import { workplace } from './workplace.js';

const device = await Device.open();
test.after(() => device.close());

/** Runs with the same place, texts and device. */
async function pruning() {
  const place = await workplace();
  const run = (more: PruneOptions) =>
    prune(place.model, place.out, {
      ...{ calibration: [place.calibration], sequenceLength: 32, force: true, device },
      ...more,
    });
  return { ...place, run };
}

const residual = (fit: Readonly<Record<string, number | string>>, layer?: number) =>
  fit[layer === undefined ? 'relativeResidual' : `${layer}: relativeResidual`] as number;

test('faithful chooses method, selection and texts as the original program', async () => {
  using place = await pruning();
  const { method, selection, calibration, recipe, fit } = await place.run({ faithful: true, layers: 2 });
  assert.is(method, 'replaceme-ls');
  assert.is(selection.by, 'mean angular distance of last tokens');
  assert.is(calibration.sequences, 56, 'of 60 texts the last four fill no batch of 8');
  assert.is(recipe.tokens, 8000 * 32);
  assert.is(recipe.faithful, true);
  // Every text is longer than 32 bytes: cut, so that nothing is padded.
  assert.is(fit.tokens, 56 * 32);
});

test('several windows are each fitted on the unpruned model, other than without faithful', async () => {
  using place = await pruning();
  const layersOf = (remove: number[]) => ({ remove, method: 'replaceme-ls', report: 'none' as const });
  const [both, first, second] = [layersOf([1, 4]), layersOf([1]), layersOf([4])];
  const faithful = (await place.run({ faithful: true, ...both })).fit;
  assert.is(residual(faithful, 0), residual((await place.run({ faithful: true, ...first })).fit));
  assert.is(residual(faithful, 3), residual((await place.run({ faithful: true, ...second })).fit));
  const usual = (await place.run(both)).fit;
  assert.is(residual(usual, 0), residual((await place.run(first)).fit));
  assert.is.not(residual(usual, 3), residual((await place.run(second)).fit));
});

test('statistics of all its windows are kept', async () => {
  using place = await pruning();
  const request = {
    ...{ faithful: true, layers: 2, windows: 2, apart: true, report: 'none' as const },
    statistics: join(place.path, 'sums.safetensors'),
  };
  const once = await place.run(request);
  assert.is(once.selection.windows.length, 2);
  const phases = new Set<string>();
  const again = await place.run({
    ...request,
    onProgress: ({ phase, done, unit }) => done > 0 && unit !== 'layers' && phases.add(phase),
  });
  assert.equal([...phases], ['load', 'write']);
  assert.equal(again.fit, once.fit);
});

test.run();
