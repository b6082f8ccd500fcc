import { ensure, type ProgramSpec, programFamily, type Recorder, Scope } from '../../engine/index.js';
import { checkMatrix, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { workgroupReduction } from '../shared/workgroup.js';
import type { TopProbabilities } from './topKlLoss.js';
import { checkPredictions, type Predictions, vocabularyPasses } from './vocabularyPasses.js';

/** Largest K. */
const MOST = 1024;

/** Fills the list of a tile that has fewer than K columns. */
const EMPTY = '-3.0e38';

/**
 * Without `lists`, selects the K largest logits of a tile and writes them to the tile's list; with `lists`, selects among
 * the lists of all tiles and writes the result. A rest is (largest logit, sum of e^(logit - largest) over all tokens that
 * are not in the list).
 */
const program = programFamily(
  (lists: boolean): ProgramSpec =>
    rowProgram({
      key: lists ? 'topLogProbabilities of lists' : 'topLogProbabilities of a tile',
      bindings: lists
        ? ['read', 'read', 'read', 'write', 'write', 'write']
        : ['read', 'write', 'write', 'write'],
      fields: 'k: u32, tile: u32, tiles: u32, start: u32',
      declarations: `
@group(0) @binding(1) var<storage, read> values: array<f32>;
${
  lists
    ? `@group(0) @binding(2) var<storage, read> listed: array<u32>;
@group(0) @binding(3) var<storage, read> rests: array<vec2f>;
@group(0) @binding(4) var<storage, read_write> logProbabilities: array<f32>;
@group(0) @binding(5) var<storage, read_write> ids: array<u32>;
@group(0) @binding(6) var<storage, read_write> logRest: array<f32>;`
    : `@group(0) @binding(2) var<storage, read_write> best: array<f32>;
@group(0) @binding(3) var<storage, read_write> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> rests: array<vec2f>;`
}
${workgroupReduction('most', ROW_LANES, 'f32', 'max(a, b)')}
${workgroupReduction('sum', ROW_LANES, 'f32', 'a + b')}
var<workgroup> histogram: array<atomic<u32>, 256>;
struct Digits { prefix: u32, remaining: u32, equal: u32 }
var<workgroup> digits: Digits;
var<workgroup> taken: atomic<u32>;
var<workgroup> taken_values: array<f32, ${MOST}>;
var<workgroup> taken_ids: array<u32, ${MOST}>;
// Maps a float to a u32 of the same order.
fn ordered(x: f32) -> u32 {
  let bits = bitcast<u32>(x);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}
fn take(value: f32, id: u32) {
  let slot = atomicAdd(&taken, 1u);
  taken_values[slot] = value;
  taken_ids[slot] = id;
}`,
      body: `
  let base = row * p.columns;
  var mine = ${EMPTY};
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) { mine = max(mine, values[base + j]); }
  let largest = most(mine, lane);
  let k = min(p.k, p.columns);
  if (lane == 0u) {
    digits = Digits(0u, k, 0u);
    atomicStore(&taken, 0u);
  }
  for (var shift = 24i; shift >= 0i; shift -= 8i) {
    for (var b = lane; b < 256u; b += ${ROW_LANES}u) { atomicStore(&histogram[b], 0u); }
    let found = workgroupUniformLoad(&digits);
    for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
      let key = ordered(values[base + j]);
      // Shifted twice: WGSL takes a shift of 32 as a shift of 0.
      if (((key >> u32(shift)) >> 8u) == found.prefix) { atomicAdd(&histogram[(key >> u32(shift)) & 255u], 1u); }
    }
    workgroupBarrier();
    if (lane == 0u) {
      var remaining = found.remaining;
      var digit = 255u;
      var count = atomicLoad(&histogram[digit]);
      while (count < remaining) {
        remaining -= count;
        digit--;
        count = atomicLoad(&histogram[digit]);
      }
      digits = Digits((found.prefix << 8u) | digit, remaining, count);
    }
    workgroupBarrier();
  }
  let threshold = workgroupUniformLoad(&digits);
  let all_equal = threshold.equal == threshold.remaining;
  var part = 0.0;
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) {
    let value = values[base + j];
    let key = ordered(value);
    if (key > threshold.prefix || (all_equal && key == threshold.prefix)) {
      take(value, ${lists ? 'listed[base + j]' : 'p.start + j'});
    } else if (key < threshold.prefix) {
      part += exp(value - largest);
    }
  }
  if (lane == 0u && !all_equal) {
    // If there are more equal values than room, the first ones are taken and the others belong to the rest.
    var room = threshold.remaining;
    for (var j = 0u; j < p.columns; j++) {
      let value = values[base + j];
      if (ordered(value) != threshold.prefix) { continue; }
      if (room > 0u) {
        take(value, ${lists ? 'listed[base + j]' : 'p.start + j'});
        room--;
      } else {
        part += exp(value - largest);
      }
    }
  }
  ${
    lists
      ? `for (var t = lane; t < p.tiles; t += ${ROW_LANES}u) {
    let rest = rests[row * p.tiles + t];
    part += rest.y * exp(rest.x - largest);
  }`
      : ''
  }
  let rest = sum(part, lane);
  ${
    lists
      ? `part = 0.0;
  for (var e = lane; e < k; e += ${ROW_LANES}u) { part += exp(taken_values[e] - largest); }
  let logSum = log(rest + sum(part, lane));
  if (lane == 0u) { logRest[row] = select(-1.0e38, log(max(rest, 1.0e-37)) - logSum, rest > 0.0); }`
      : `if (lane == 0u) { rests[row * p.tiles + p.tile] = vec2f(largest, rest); }
  let first = (row * p.tiles + p.tile) * p.k;
  for (var e = k + lane; e < p.k; e += ${ROW_LANES}u) {
    best[first + e] = ${EMPTY};
    ids[first + e] = 0xffffffffu;
  }`
  }
  for (var e = lane; e < k; e += ${ROW_LANES}u) {
    let value = taken_values[e];
    let id = taken_ids[e];
    var rank = 0u;
    for (var other = 0u; other < k; other++) {
      let above = taken_values[other];
      rank += select(0u, 1u, above > value || (above == value && taken_ids[other] < id));
    }
    ${
      lists
        ? `logProbabilities[row * p.k + rank] = (value - largest) - logSum;
    ids[row * p.k + rank] = id;`
        : `best[first + rank] = value;
    ids[first + rank] = id;`
    }
  }`,
    }),
);

/**
 * Finds a model's K likeliest next tokens, in falling order: writes ids [T,K] u32, logProbabilities [T,K] and logRest [T]
 * f32. K is the width of `ids`, from 1 to 1,024 and at most V.
 *
 * @throws RmError INVALID_ARGUMENT when shapes or K do not fit.
 */
export function topLogProbabilities(
  rec: Recorder,
  model: Predictions,
  { ids, logProbabilities, logRest }: TopProbabilities,
): void {
  const kernel = 'topLogProbabilities';
  const { tokens, vocabulary } = checkPredictions(kernel, { model });
  const [, k] = checkMatrix(kernel, 'ids', ids, ['u32']);
  checkTensor(kernel, 'ids', ids, [tokens, k], ['u32']);
  checkTensor(kernel, 'logProbabilities', logProbabilities, [tokens, k]);
  checkTensor(kernel, 'logRest', logRest, [tokens]);
  ensure(
    k >= 1 && k <= Math.min(MOST, vocabulary),
    `${kernel}: cannot list the ${k} likeliest of ${vocabulary} tokens`,
    `Choose K from 1 to ${Math.min(MOST, vocabulary)}.`,
  );
  using scope = new Scope(ids.device);
  vocabularyPasses(rec, [model], {
    begin(tiles) {
      const best = scope.tensor([tokens, tiles * k], 'f32', 'likeliest by tile');
      const listed = scope.tensor([tokens, tiles * k], 'u32', 'their ids');
      const rests = scope.tensor([tokens, tiles, 2], 'f32', 'rests by tile');
      const work = (columns: number) => ({ flops: 8 * tokens * columns, bytes: 24 * tokens * columns });
      return ({ start, columns, index, last, logits: [logits] }) => {
        const tensors = [logits!, best, listed, rests];
        runRows(rec, program(false), tensors, [tokens, columns], [k, index, tiles, start], work(columns));
        if (!last) return;
        const lists = [best, listed, rests, logProbabilities, ids, logRest];
        runRows(rec, program(true), lists, [tokens, tiles * k], [k, 0, tiles, 0], work(tiles * k));
      };
    },
  });
}
