// Without a device.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { requestDevice } from '../../engine/requestDevice.js';

/** An adapter that opens no device with one of these features. */
function adapterRefusing(refused: readonly string[]) {
  const requests: string[][] = [];
  const requestDevice = async ({ requiredFeatures = [] }: GPUDeviceDescriptor = {}) => {
    const features = [...requiredFeatures] as string[];
    requests.push(features);
    const bad = features.find(feature => refused.includes(feature));
    if (bad) throw new Error(`no ${bad}`);
    return { features } as unknown as GPUDevice;
  };
  return { requests, adapter: { requestDevice } as unknown as GPUAdapter };
}

test('a driver that refuses an experiment is asked once more without experiments', async () => {
  const { requests, adapter } = adapterRefusing(['trial']);
  await requestDevice(adapter, ['proven', 'trial', 'other trial'], ['trial', 'other trial'], {});
  assert.equal(requests, [['proven', 'trial', 'other trial'], ['proven']]);
});

test('nothing is asked twice without need', async () => {
  const willing = adapterRefusing([]);
  await requestDevice(willing.adapter, ['proven', 'trial'], ['trial'], {});
  assert.is(willing.requests.length, 1);
  const unwilling = adapterRefusing(['proven']);
  let message = '';
  await requestDevice(unwilling.adapter, ['proven'], ['trial'], {}).catch(error => (message = error.message));
  assert.is(message, 'no proven');
  assert.is(unwilling.requests.length, 1);
});

test.run();
