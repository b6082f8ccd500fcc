import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { exactJsonText, parseExactJson, plainNumbers } from '../../model/files/exactJson.js';
import { rejectsWith } from '../gpu.js';

test('numbers are written as they were spelt', () => {
  const text = `{
  "cap": 30.0,
  "eps": 1e-05,
  "large": 12345678901234567890,
  "list": [
    1,
    -2.50,
    "3.0",
    "a \\"4.0\\" b"
  ],
  "none": null
}`;
  const value = parseExactJson(text, 'config.json');
  assert.is(exactJsonText(value), text);
  assert.equal(plainNumbers(value), JSON.parse(text));
});

test('what is no JSON is refused', async () => {
  await rejectsWith(() => parseExactJson('{"a": 1.0,}', 'config.json'), 'CONFIG_INVALID');
  await rejectsWith(() => parseExactJson('{"a": 1.}', 'config.json'), 'CONFIG_INVALID');
  await rejectsWith(() => parseExactJson('{"a": 01}', 'config.json'), 'CONFIG_INVALID');
});

test.run();
