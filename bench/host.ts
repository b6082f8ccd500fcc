/**
 * Times the host's work beside the GPU: recording dispatches, converting weights, tokenising. By tinybench, wall clock.
 * Run it with: npm run bench -- host
 */
import { readFileSync } from 'node:fs';
import { Bench } from 'tinybench';
import { Device, decodeToF32, encodeFromF32, seededRandom, Tensor } from '../engine/index.js';
import { add } from '../kernels/index.js';
import { loadTokenizer } from '../model/index.js';
import { shippedPath } from '../replaceme/index.js';

const DISPATCHES = 1000;
const VALUES = 1 << 20;

await using device = await Device.open();
const [a, b, c] = [1, 2, 3].map(() => Tensor.create(device, [64])) as [Tensor, Tensor, Tensor];
const random = seededRandom(1);
const values = Float32Array.from({ length: VALUES }, () => random() - 0.5);
const halves = encodeFromF32(values, 'bf16');
const text = readFileSync(shippedPath('demo-heldout.txt'), 'utf8').slice(0, 20_000);
const tokenizer = await loadTokenizer(shippedPath('demo-model'));

const bench = new Bench({ time: 500, warmupTime: 200 })
  .add(
    `record ${DISPATCHES} dispatches`,
    () => {
      for (let i = 0; i < DISPATCHES; i++) add(device.recorder, a, b, c);
    },
    {
      // Submit and run them outside the timing.
      afterEach: () => device.recorder.flush(),
    },
  )
  .add(`${VALUES} values f32 -> bf16`, () => {
    encodeFromF32(values, 'bf16');
  })
  .add(`${VALUES} values bf16 -> f32`, () => {
    decodeToF32(halves, 'bf16');
  })
  .add(`tokenise ${text.length} characters`, async () => {
    await tokenizer.encode(text);
  });

await bench.run();
console.table(bench.table());
