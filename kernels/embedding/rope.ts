import {
  checkArguments,
  ensure,
  flag,
  instanceOf,
  numeric,
  optional,
  programFamily,
  type Recorder,
  settings,
  type Tensor,
  whole,
} from '../../engine/index.js';
import { aTensor, checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, NAN_BITS, runFlat } from '../shared/flat.js';
import { scalarTensor } from '../shared/wgsl.js';

/** Settings of `rope`. */
export interface RopeOptions {
  headDim: number;
  /** Pairs neighbouring columns (0 with 1), not those half the rotated columns apart. */
  interleaved?: boolean;
  /** For the backward pass: multiplies by the transpose of the rotation, times the table's scale; not with `store`. */
  transpose?: boolean;
  /** Writes rotated k, and v, to the `rows` of a KV cache, u32 [T], and leaves k unchanged. Rows beyond the cache are not written. */
  store?: { readonly v: Tensor; readonly keys: Tensor; readonly values: Tensor; readonly rows: Tensor };
}

const ropeSettings = settings<RopeOptions>({
  headDim: whole(1),
  transpose: optional(flag),
  interleaved: optional(flag),
  store: optional(settings({ v: aTensor, keys: aTensor, values: aTensor, rows: aTensor })),
});

const program = programFamily((store: boolean, transpose: boolean, interleaved: boolean) =>
  flatProgram({
    key: `rope${store ? ' and store' : transpose ? ' transposed' : ''}${interleaved ? ', interleaved' : ''}`,
    bindings: store
      ? ['read', 'read', 'write', 'read', 'read', 'write', 'write', 'read']
      : ['read', 'read', 'write', 'write'],
    fields:
      'heads: u32, kv_heads: u32, per_token: u32, half: u32, pairs: u32, table_rows: u32, nan: u32, capacity: u32',
    declarations: `
${scalarTensor('positions', 1, 'u32')}
${scalarTensor('table', 2, 'f32')}
@group(0) @binding(3) var<storage, read_write> q: array<f32>;
@group(0) @binding(4) var<storage, ${store ? 'read' : 'read_write'}> k: array<f32>;
${
  store
    ? `@group(0) @binding(5) var<storage, read> v: array<f32>;
@group(0) @binding(6) var<storage, read_write> keys: array<f32>;
@group(0) @binding(7) var<storage, read_write> values: array<f32>;
${scalarTensor('cache_rows', 8, 'u32')}`
    : ''
}
// The columns of pair i turned by the angle of a position.
fn rotated(a: f32, b: f32, token: u32, i: u32) -> vec2f {
  let position = positions(token);
  var turn = vec2f(bitcast<f32>(p.nan));
  if (position < p.table_rows) {
    let at = position * p.pairs * 2u + i;
    turn = vec2f(table(at), ${transpose ? '-' : ''}table(at + p.pairs));
  }
  return vec2f(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
}`,
    // Columns beyond the rotated ones are paired with their neighbours: they are only stored.
    body: `
  let pair = i % p.half;
  let rotates = pair < p.pairs;
  let token = i / p.half / p.per_token;
  let head = i / p.half % p.per_token;
  let apart = rotates && ${!interleaved};
  let first = select(2u * pair, pair, apart);
  let second = select(1u, p.pairs, apart);
  if (head < p.heads) {
    if (rotates) {
      let at = (token * p.heads + head) * p.half * 2u + first;
      let ab = rotated(q[at], q[at + second], token, pair);
      q[at] = ab.x;
      q[at + second] = ab.y;
    }
    return;
  }
  let kv_head = (head - p.heads) % p.kv_heads;
  let at = (token * p.kv_heads + kv_head) * p.half * 2u + first;
${
  store
    ? `
  let cache_row = cache_rows(token);
  if (cache_row >= p.capacity) { return; }
  let to = (cache_row - token) * p.kv_heads * p.half * 2u + at;
  if (head >= p.heads + p.kv_heads) {
    values[to] = v[at];
    values[to + second] = v[at + second];
    return;
  }
  var ab = vec2f(k[at], k[at + second]);
  if (rotates) { ab = rotated(ab.x, ab.y, token, pair); }
  keys[to] = ab.x;
  keys[to + second] = ab.y;`
    : `
  if (rotates) {
    let ab = rotated(k[at], k[at + second], token, pair);
    k[at] = ab.x;
    k[at + second] = ab.y;
  }`
}`,
  }),
);

/**
 * Computes the table of `rope`: cos and sin of position * inverseFrequencies[j], times `scale`, for positions
 * 0 .. count-1, in f64. Row-major [count, 2 * frequencies], cosines first.
 */
export function ropeTable(inverseFrequencies: Float64Array, count: number, scale = 1): Float32Array {
  checkArguments(
    'ropeTable',
    { inverseFrequencies, count, scale },
    {
      inverseFrequencies: instanceOf(Float64Array, 'a Float64Array'),
      count: whole(0, 2 ** 31),
      scale: numeric,
    },
  );
  const pairs = inverseFrequencies.length;
  const table = new Float32Array(count * pairs * 2);
  for (let position = 0; position < count; position++) {
    const row = position * pairs * 2;
    for (let j = 0; j < pairs; j++) {
      const angle = position * inverseFrequencies[j]!;
      table[row + j] = Math.cos(angle) * scale;
      table[row + pairs + j] = Math.sin(angle) * scale;
    }
  }
  return table;
}

/**
 * Applies rotary position embedding to every head of q [T, heads*headDim] and k [T, kvHeads*headDim] f32, in place;
 * positions [T] u32, table [P, R <= headDim] f32 from `ropeTable`. With `store`, k stays unchanged: rotated k, and v, go
 * to a KV cache.
 *
 * @throws RmError INVALID_ARGUMENT when shapes, dtypes or options do not fit.
 */
export function rope(
  rec: Recorder,
  q: Tensor,
  k: Tensor,
  positions: Tensor,
  table: Tensor,
  options: RopeOptions,
): void {
  checkOperands('rope', rec, { q, k, positions, table });
  checkArguments('rope', { options }, { options: ropeSettings });
  const { headDim, store, transpose = false, interleaved = false } = options;
  const [tokens, columns] = checkMatrix('rope', 'q', q);
  const [, kvColumns] = checkMatrix('rope', 'k', k);
  checkTensor('rope', 'k', k, [tokens, kvColumns]);
  checkTensor('rope', 'positions', positions, [tokens], ['u32']);
  const [tableRows, rotated] = checkMatrix('rope', 'table', table);
  ensure(
    headDim > 0 && headDim % 2 === 0 && columns % headDim === 0 && kvColumns % headDim === 0,
    `rope: q has ${columns} columns and k ${kvColumns}, but heads have ${headDim}`,
    'Columns must be a multiple of headDim, which must be even.',
  );
  ensure(
    rotated <= headDim && rotated % 2 === 0,
    `rope: the table rotates ${rotated} columns of heads that have ${headDim}`,
    'The width of the table must be even and at most headDim.',
  );
  ensure(!(store && transpose), 'rope: gradients are not cached', 'Pass either store or transpose.');
  const tensors = [positions, table, q, k];
  let capacity = 0;
  if (store) {
    const { v, keys, values, rows } = store;
    checkTensor('rope', 'rows', rows, [tokens], ['u32']);
    checkTensor('rope', 'v', v, [tokens, kvColumns]);
    [capacity] = checkMatrix('rope', 'keys', keys);
    checkTensor('rope', 'keys', keys, [capacity, kvColumns]);
    checkTensor('rope', 'values', values, [capacity, kvColumns]);
    tensors.push(v, keys, values, rows);
  }
  const [heads, kvHeads] = [columns / headDim, kvColumns / headDim];
  const perToken = heads + kvHeads * (store ? 2 : 1);
  runFlat(
    rec,
    program(store !== undefined, transpose, interleaved),
    tensors,
    (tokens * perToken * headDim) / 2,
    [heads, kvHeads, perToken, headDim / 2, rotated / 2, tableRows, NAN_BITS, capacity],
    { flops: 3 * tokens * (heads + kvHeads) * rotated, bytes: 8 * tokens * perToken * headDim },
  );
}
