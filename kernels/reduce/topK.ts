import { byteSize, ensure, programFamily, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { convert } from '../map/named.js';
import { checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { MOST_SELECTED, rankOfTaken, selectionWgsl, selectLargest } from '../shared/selectLargest.js';
import { scalarTensor } from '../shared/wgsl.js';

/** Columns of a chunk; rows of up to four chunks are not divided. */
const CHUNK = 4096;

/**
 * 'whole' rows and 'chunk's read elements, 'lists' the keys and places that chunks have found. Keys have the order of the
 * elements; NaN, of either sign, is beyond infinity, and zeros of either sign are equal.
 */
const program = programFamily((stage: 'whole' | 'chunk' | 'lists', dtype: 'f32' | 'f16' | 'bf16' | 'u32') => {
  const integers = dtype === 'u32';
  const element = stage === 'lists' ? 'x(base + j)' : integers ? 'x(base + j)' : 'keyOf(x(base + j))';
  const decoded = integers ? 'key' : 'unordered(key)';
  return rowProgram({
    key: `topK ${stage} ${dtype}`,
    bindings: ['read', 'write', 'write', ...(stage === 'lists' ? (['read'] as const) : [])],
    fields: 'k: u32, chunks: u32, chunk: u32',
    declarations: `
${scalarTensor('x', 1, stage === 'lists' ? 'u32' : dtype)}
@group(0) @binding(2) var<storage, read_write> values: array<${integers || stage === 'chunk' ? 'u32' : 'f32'}>;
@group(0) @binding(3) var<storage, read_write> places: array<u32>;
${stage === 'lists' ? '@group(0) @binding(4) var<storage, read> listed: array<u32>;' : ''}
${selectionWgsl}
fn keyOf(x: f32) -> u32 {
  let bits = bitcast<u32>(x) & 0x7fffffffu;
  return select(select(ordered(x), 0x80000000u, bits == 0u), 0xffffffffu, bits > 0x7f800000u);
}`,
    body: `
  let base = row / p.chunks * p.columns;
  let begin = row % p.chunks * p.chunk;
  let end = min(p.columns, begin + p.chunk);
  let k = min(p.k, end - begin);
  ${selectLargest({
    begin: 'begin',
    end: 'end',
    key: element,
    id: stage === 'lists' ? 'listed[base + j]' : 'j',
  })}
  for (var e = lane; e < k; e += ${ROW_LANES}u) {
    ${rankOfTaken}
    let key = taken_keys[e];
    values[row * p.k + rank] = ${stage === 'chunk' ? 'key' : decoded};
    places[row * p.k + rank] = taken_ids[e];
  }
  ${
    stage === 'chunk'
      ? `// A last chunk of fewer elements fills its list with what no element is before.
  for (var e = k + lane; e < p.k; e += ${ROW_LANES}u) {
    values[row * p.k + e] = 0u;
    places[row * p.k + e] = 0xffffffffu;
  }`
      : ''
  }`,
  });
});

/**
 * Finds the K largest elements of the last dimension, the largest first, and of equal ones the first: writes values [...,K]
 * of x's dtype and indices [...,K] u32; x [...,N] f32, f16, bf16 or u32. K is the width of both outputs, from 1 to 1,024
 * and at most N. NaN counts as larger than infinity. @throws RmError INVALID_ARGUMENT.
 */
export function topK(rec: Recorder, x: Tensor, values: Tensor, indices: Tensor): void {
  checkOperands('topK', rec, { x, values, indices });
  const k = values.columns;
  const columns = x.columns;
  ensure(
    x.shape.length > 0 && k >= 1 && k <= Math.min(MOST_SELECTED, columns),
    `topK: the ${k} largest of ${columns} elements`,
    `Choose K from 1 to ${MOST_SELECTED}, and at most all.`,
  );
  const shape = [...x.shape.slice(0, -1), k];
  checkTensor('topK', 'values', values, shape, [x.dtype]);
  checkTensor('topK', 'indices', indices, shape, ['u32']);
  const rows = x.rowCount;
  if (rows === 0) return;
  using scope = new Scope(x.device);
  const half = byteSize(x.dtype) === 2;
  // Two 16-bit values share a word.
  const found = half ? scope.tensor(shape, 'f32', 'largest elements') : values;
  const work = { flops: 6 * x.size, bytes: 5 * x.byteLength };
  // Lists of chunks that are not much shorter than the chunks would gain nothing.
  if (columns <= 4 * CHUNK || 4 * k > CHUNK) {
    runRows(rec, program('whole', x.dtype), [x, found, indices], [rows, columns], [k, 1, columns], work);
  } else {
    const chunks = Math.ceil(columns / CHUNK);
    const keys = scope.tensor([rows, chunks * k], 'u32', 'keys of chunks');
    const places = scope.tensor([rows, chunks * k], 'u32', 'places of keys');
    const list = chunks * k;
    runRows(
      rec,
      program('chunk', x.dtype),
      [x, keys, places],
      [rows * chunks, columns],
      [k, chunks, CHUNK],
      work,
    );
    runRows(rec, program('lists', x.dtype), [keys, found, indices, places], [rows, list], [k, 1, list], {
      flops: 6 * keys.size,
      bytes: 5 * keys.byteLength,
    });
  }
  if (half) convert(rec, found, values);
}
