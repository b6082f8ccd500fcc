// A layer with zeros for weights, of every family: it adds nothing to its input. Needs no weights; 3 s on an idle machine.
import { readdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asF32, Device, download, Scope, tensorFrom } from '../../engine/index.js';
import { Batch, forward, Model, openHeaders, readArchitecture } from '../../model/index.js';
import { normals } from '../gpu.js';
import { dataPath } from '../support.js';

test('a layer of zeros passes its input on', async () => {
  await using device = await Device.open();
  for (const family of readdirSync(dataPath('families'))) {
    const folder = dataPath('families', family);
    const arch = await readArchitecture(folder);
    const checkpoint = await openHeaders(folder, arch);
    const live = device.memory.liveBytes;
    {
      using scope = new Scope(device);
      using model = await Model.zeroLayer(device, arch, checkpoint);
      using batch = new Batch(device, [Array(5).fill(0), Array(3).fill(0)]);
      const values = normals(8 * arch.hidden, 1);
      const input = scope.own(tensorFrom(device, values, [8, arch.hidden]));
      const output = scope.own(forward(model, batch, { from: 0, to: 1, input }));
      assert.equal(asF32(await download(output)), values, family);
    }
    assert.is(device.memory.liveBytes, live, family);
    await checkpoint.close();
  }
});

test.run();
