// Experts that are stored together: one by one and back, MXFP4 to the bit, damaged files. 3 s.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { asU16, Device } from '../../engine/index.js';
import { readDense } from '../../model/checkpoint/denseTensor.js';
import { fusedParts } from '../../model/checkpoint/fusedExperts.js';
import { openCheckpoint, openSafetensors } from '../../model/index.js';
import { withFusedExperts } from '../../model/writing/fusedTensors.js';
import { rejectsWith } from '../gpu.js';
import { dataPath, temporaryFolder } from '../support.js';

const device = await Device.open();
test.after(() => device.close());

test('tensors of all experts, one by one and together again, have the same bytes', async () => {
  const folder = dataPath('families', 'gpt_oss');
  const [stored, split] = [await openSafetensors(folder), await openCheckpoint(folder)];
  const fused = stored.names.filter(name => fusedParts(name));
  assert.is(fused.length, 4 * 4);
  assert.not.ok(split.names.some(name => fused.includes(name)));
  const together = withFusedExperts(
    split.names.map(name => ({ ...split.info(name), bytes: () => split.read(name) })),
  );
  assert.equal(together.map(({ name }) => name).sort(), [...stored.names].sort());
  for (const { name, shape, bytes } of together) {
    assert.equal(shape, stored.info(name).shape, name);
    const pieces: Uint8Array[] = [];
    const given = await bytes();
    if (given instanceof Uint8Array) pieces.push(given);
    else for await (const piece of given) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(await stored.read(name)), name);
  }
  // gate and up are columns in turn.
  const whole = asU16(await stored.read('model.layers.1.mlp.experts.gate_up_proj'));
  const up = asU16(await split.read('model.layers.1.mlp.experts.3.up_proj.weight'));
  for (const [f, h] of [
    [0, 0],
    [7, 5],
    [19, 23],
  ] as const) {
    assert.is(up[f * 24 + h], whole[(3 * 24 + h) * 40 + 2 * f + 1]);
  }
  for (const checkpoint of [stored, split]) await checkpoint.close();
});

/** E2M1. */
const numbers = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

test('MXFP4 becomes what its codes and scales say, to the bit', async () => {
  const folder = dataPath('families', 'gpt_oss-mxfp4');
  const [stored, split] = [await openSafetensors(folder), await openCheckpoint(folder)];
  const [experts, rows, columns] = [3, 128, 32];
  const at = 'model.layers.2.mlp.experts';
  const blocks = await stored.read(`${at}.gate_up_proj_blocks`);
  const scales = await stored.read(`${at}.gate_up_proj_scales`);
  for (let e = 0; e < experts; e++) {
    for (const [first, part] of ['gate_proj', 'up_proj'].entries()) {
      const bytes = await readDense(device, split, `${at}.${e}.${part}.weight`);
      const words = asU16(bytes);
      for (let r = first; r < rows; r += 2) {
        for (let c = 0; c < columns; c++) {
          const row = e * rows + r;
          const byte = blocks[(row * columns) / 2 + (c >> 1)]!;
          const code = c % 2 ? byte >> 4 : byte & 15;
          const value = numbers[code & 7]! * 2 ** (scales[row]! - 127) * (code > 7 ? -1 : 1);
          const word = words[((r - first) / 2) * columns + c]!;
          const found = new Float32Array(Uint32Array.of(word << 16).buffer)[0];
          assert.ok(Object.is(found, Math.fround(value)), `expert ${e}, ${part}: ${found}, not ${value}`);
        }
      }
    }
  }
  for (const checkpoint of [stored, split]) await checkpoint.close();
});

/** Opens a copy of a model of which names in the header are replaced by others of the same length. */
async function refused(family: string, from: string, to: string): Promise<string> {
  using folder = temporaryFolder();
  cpSync(dataPath('families', family), folder.path, { recursive: true });
  const path = join(folder.path, 'model.safetensors');
  writeFileSync(path, readFileSync(path, 'latin1').replaceAll(from, to), 'latin1');
  return await rejectsWith(async () => {
    const checkpoint = await openCheckpoint(folder.path);
    try {
      for (const name of checkpoint.names) checkpoint.info(name);
    } finally {
      await checkpoint.close();
    }
  }, 'CHECKPOINT_CORRUPT');
}

test('parts that are missing or have another shape are refused by name', async () => {
  assert.match(await refused('gpt_oss-mxfp4', 'down_proj_scales', 'down_proj_scalez'), /down_proj_scales/);
  assert.match(await refused('gpt_oss-mxfp4', '[3,32,2]', '[3,64,1]'), /down_proj_scales.*\[3,64,1\]/);
});

test.run();
