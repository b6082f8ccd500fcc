import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device } from '../../engine/index.js';
import { Model } from '../../model/index.js';
import { lastTokenAngle } from '../../replaceme/selections/angular.js';
import { windowDistances } from '../../replaceme/windowMap/windowDistances.js';
import { maxAbsError } from '../gpu.js';
import { plainBatches } from '../replaceme/workplace.js';
import { saySkipped, sharedPath } from '../support.js';

const folder = process.env.RM_SMOLLM2;
const golden = sharedPath('golden', 'smollm2');

if (!folder || !golden) {
  saySkipped('selections on SmolLM2-135M: set RM_SMOLLM2 to its folder, shared/ beside the repository');
} else {
  const readJson = <T>(name: string) => JSON.parse(readFileSync(join(golden, name), 'utf8')) as T;

  test('mean angular distances of the last tokens, all windows', async () => {
    await using device = await Device.open();
    using model = await Model.load(device, folder);
    const { distances } = readJson<{ distances: Record<string, { angular_last: number[] }> }>(
      'replaceme.json',
    );
    const batches = plainBatches(readJson<{ fit: number[][] }>('tokens.json').fit, 1024);
    const found = await windowDistances(model, batches, [4, 7], { measure: lastTokenAngle });
    for (const [c, n] of [4, 7].entries()) {
      const worst = maxAbsError(found[c]!, distances[`n=${n}`]!.angular_last);
      console.log(`n = ${n}: angle off by ${worst.toExponential(1)}`);
      assert.ok(worst < 1e-4, `n = ${n}: angle off by ${worst}`);
    }
  });
}

test.run();
