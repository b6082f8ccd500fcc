// Edits of a forward pass against models whose weights say the same. Costs 4 s.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Device, downloadF32, Scope, Tensor, tensorFrom } from '../../engine/index.js';
import { fill, map } from '../../kernels/index.js';
import { Batch, type Edits, forward, logits, Model } from '../../model/index.js';
import { normals, relativeError } from '../gpu.js';
import { temporaryFolder } from '../support.js';
import { tinyConfig, writeTinyModel } from '../tinyModel.js';

const {
  hidden_size: width,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  head_dim: headDim,
} = tinyConfig;
const ids = [72, 101, 108, 108, 111, 32];
const LAYER = 3;

let device: Device;
const scope: { own?: Scope } = {};
test.before(async () => {
  device = await Device.open();
  scope.own = new Scope(device);
});
test.after(async () => {
  scope.own?.dispose();
  await device.close();
});

/** The tiny model, some of whose values are changed before it is written. */
async function modelWith(values?: (name: string, values: Float32Array) => void): Promise<Model> {
  using folder = temporaryFolder();
  await writeTinyModel(folder.path, values && { values });
  return await Model.load(device, folder.path);
}
const logitsOf = async (model: Model, edit?: Edits) => (await logits(model, ids, edit && { edit })).logits;

test('a head that an edit silences is a head whose columns of o_proj are zero', async () => {
  const HEAD = 2;
  using model = await modelWith();
  using silent = await modelWith((name, values) => {
    if (!name.includes(`layers.${LAYER}.self_attn.o_proj`)) return;
    for (let at = 0; at < values.length; at++) {
      if (Math.floor((at % (heads * headDim)) / headDim) === HEAD) values[at] = 0;
    }
  });
  const chosen = Float32Array.from({ length: heads }, (_, head) => Number(head !== HEAD));
  const kept = scope.own!.own(tensorFrom(device, chosen, [heads, 1]));
  const shapes: number[][] = [];
  const edited = await logitsOf(model, {
    heads(layer, outputs) {
      shapes.push([...outputs.shape]);
      if (layer === LAYER) map(device.recorder, 'outputs * kept', { outputs, kept }, outputs);
    },
  });
  assert.equal(shapes, Array(layers).fill([ids.length, heads, headDim]));
  assert.ok(relativeError(edited, await logitsOf(silent)) < 1e-6);
  assert.ok(relativeError(edited, await logitsOf(model)) > 1e-3);
});

test('an MLP that an edit silences is one whose down_proj is zero; a tap sees what is left', async () => {
  using model = await modelWith();
  using silent = await modelWith((name, values) => {
    if (name.includes(`layers.${LAYER}.mlp.down_proj`)) values.fill(0);
  });
  const edit: Edits = {
    mlp(layer, output) {
      if (layer === LAYER) fill(device.recorder, output, 0);
    },
  };
  assert.ok(relativeError(await logitsOf(model, edit), await logitsOf(silent)) < 1e-6);
  using batch = new Batch(device, [ids]);
  using seen = Tensor.create(device, [ids.length, width]);
  using last = forward(model, batch, {
    edit,
    tap: (layer, { mlpOutput }) => layer === LAYER && device.recorder.copy(mlpOutput, seen),
  });
  assert.equal(last.shape, [ids.length, width]);
  assert.equal([...(await downloadF32(seen))], Array(seen.size).fill(0));
  using one = forward(model, batch, {
    lastToken: true,
    edit: { mlp: (layer, output) => layer === layers - 1 && assert.equal(output.shape, [1, width]) },
  });
  assert.equal(one.shape, [1, width]);
});

test('a stream that an edit replaces is the input of the layers that follow', async () => {
  using model = await modelWith();
  using batch = new Batch(device, [ids]);
  using stream = tensorFrom(device, normals(ids.length * width, 5), [ids.length, width]);
  using expected = forward(model, batch, { from: LAYER, input: stream });
  const replace: Edits = {
    residual: (layer, old) => layer === LAYER && device.recorder.copy(stream, old),
  };
  using whole = forward(model, batch, { edit: replace });
  assert.equal(await downloadF32(whole), await downloadF32(expected));

  // A caller's input is left as it was, and each place is edited once, in whatever parts the layers run.
  const places: number[] = [];
  const counted: Edits = {
    residual(layer, old) {
      places.push(layer);
      map(device.recorder, 'old + 1', { old }, old);
    },
  };
  const before = await downloadF32(stream);
  using first = forward(model, batch, { from: 2, to: LAYER, input: stream, edit: counted });
  using rest = forward(model, batch, { from: LAYER, input: first, edit: counted });
  assert.equal(places, [2, 3, 4, 5, layers]);
  assert.equal(await downloadF32(stream), before);
  using together = forward(model, batch, { from: 2, input: stream, edit: counted });
  assert.equal(await downloadF32(together), await downloadF32(rest));
  places.length = 0;
  await logitsOf(model, counted);
  assert.equal(places, [0, 1, 2, 3, 4, 5, layers]);
});

test.run();
