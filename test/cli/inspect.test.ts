import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { formatSummary } from '../../cli/inspect.js';
import { inspectModel } from '../../model/source/inspectModel.js';
import { dataPath } from '../support.js';

test('tensors of a whole CLIP that are not used are counted, and listed in the summary', async () => {
  const summary = await inspectModel(dataPath('clip', 'whole'));
  const { unusedTensors } = summary;
  assert.ok(unusedTensors.length > 3);
  const line = formatSummary(summary)
    .split('\n')
    .find(text => text.startsWith('not used'));
  assert.match(line!, `${unusedTensors.length} tensors, for example ${unusedTensors[0]}`);
  assert.ok(line!.length < 120, line!);
});

test.run();
