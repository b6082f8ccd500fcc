import {
  checkArguments,
  ensure,
  type ProgramSpec,
  programFamily,
  type Recorder,
  Scope,
} from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { ROW_LANES, rowProgram, runRows } from '../shared/rows.js';
import { MOST_SELECTED, rankOfTaken, selectionWgsl, selectLargest } from '../shared/selectLargest.js';
import { workgroupReduction } from '../shared/workgroup.js';
import { type TopProbabilities, theProbabilities } from './topKlLoss.js';
import { checkPredictions, type Predictions, thePredictions, vocabularyPasses } from './vocabularyPasses.js';

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
${selectionWgsl}`,
      body: `
  let base = row * p.columns;
  var mine = ${EMPTY};
  for (var j = lane; j < p.columns; j += ${ROW_LANES}u) { mine = max(mine, values[base + j]); }
  let largest = most(mine, lane);
  let k = min(p.k, p.columns);
  var part = 0.0;
  ${selectLargest({
    begin: '0u',
    end: 'p.columns',
    key: 'ordered(values[base + j])',
    id: lists ? 'listed[base + j]' : 'p.start + j',
    rest: 'part += exp(values[base + j] - largest);',
  })}
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
  for (var e = lane; e < k; e += ${ROW_LANES}u) { part += exp(unordered(taken_keys[e]) - largest); }
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
    let value = unordered(taken_keys[e]);
    let id = taken_ids[e];
    ${rankOfTaken}
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
export function topLogProbabilities(rec: Recorder, model: Predictions, out: TopProbabilities): void {
  const kernel = 'topLogProbabilities';
  checkOperands(kernel, rec, {});
  checkArguments(kernel, { model, out }, { model: thePredictions, out: theProbabilities });
  const { ids, logProbabilities, logRest } = out;
  const { tokens, vocabulary } = checkPredictions(kernel, { model });
  const [, k] = checkMatrix(kernel, 'ids', ids, ['u32']);
  checkTensor(kernel, 'ids', ids, [tokens, k], ['u32']);
  checkTensor(kernel, 'logProbabilities', logProbabilities, [tokens, k]);
  checkTensor(kernel, 'logRest', logRest, [tokens]);
  ensure(
    k >= 1 && k <= Math.min(MOST_SELECTED, vocabulary),
    `${kernel}: cannot list the ${k} likeliest of ${vocabulary} tokens`,
    `Choose K from 1 to ${Math.min(MOST_SELECTED, vocabulary)}.`,
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
