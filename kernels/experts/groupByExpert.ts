import { type ProgramSpec, type Recorder, Scope, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import { flatProgram, runFlat } from '../shared/flat.js';

/** Tokens that one invocation goes through, one after the other. */
const CHUNK = 64;

/** Where the rows of experts lie; A = T * K assignments of tokens to experts at the most, ordered by expert, then by token. */
export interface ExpertRows {
  /** Where the rows of each expert begin, and where those of the last one end; u32 [E + 1]. */
  readonly begins: Tensor;
  /** The token of each row; u32 [A]. */
  readonly tokens: Tensor;
  /** What the expert's output counts for that token; f32 [A]. */
  readonly factors: Tensor;
  /** The rows of each token, by expert, plus 1; 0: none. u32 [T, K]. */
  readonly places: Tensor;
}

const weightsAndCounts = `
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;`;

/** Tokens of each expert in each chunk. */
const count: ProgramSpec = flatProgram({
  key: 'groupByExpert count',
  bindings: ['read', 'write'],
  fields: 'experts: u32, tokens: u32',
  declarations: weightsAndCounts,
  body: `
  let expert = i % p.experts;
  let first = i / p.experts * ${CHUNK}u;
  var found = 0u;
  for (var t = first; t < min(p.tokens, first + ${CHUNK}u); t++) {
    found += select(0u, 1u, weights[t * p.experts + expert] > 0.0);
  }
  counts[i] = found;`,
});

/** Turns the counts of an expert into sums over the chunks before, and adds them up. */
const sum: ProgramSpec = flatProgram({
  key: 'groupByExpert sum',
  bindings: ['write', 'write'],
  fields: 'chunks: u32',
  declarations: `
@group(0) @binding(1) var<storage, read_write> counts: array<u32>;
@group(0) @binding(2) var<storage, read_write> totals: array<u32>;`,
  body: `
  var before = 0u;
  for (var chunk = 0u; chunk < p.chunks; chunk++) {
    let own = counts[chunk * p.count + i];
    counts[chunk * p.count + i] = before;
    before += own;
  }
  totals[i] = before;`,
});

const begin: ProgramSpec = flatProgram({
  key: 'groupByExpert begin',
  bindings: ['read', 'write'],
  declarations: `
@group(0) @binding(1) var<storage, read> totals: array<u32>;
@group(0) @binding(2) var<storage, read_write> begins: array<u32>;`,
  body: `
  var before = 0u;
  for (var expert = 0u; expert < i; expert++) { before += totals[expert]; }
  begins[i] = before;`,
});

const place: ProgramSpec = flatProgram({
  key: 'groupByExpert place',
  bindings: ['read', 'read', 'read', 'write', 'write', 'write'],
  fields: 'experts: u32, tokens: u32, taken: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> counts: array<u32>;
@group(0) @binding(3) var<storage, read> begins: array<u32>;
@group(0) @binding(4) var<storage, read_write> rowTokens: array<u32>;
@group(0) @binding(5) var<storage, read_write> factors: array<f32>;
@group(0) @binding(6) var<storage, read_write> places: array<u32>;`,
  body: `
  let expert = i % p.experts;
  let first = i / p.experts * ${CHUNK}u;
  var row = begins[expert] + counts[i];
  for (var t = first; t < min(p.tokens, first + ${CHUNK}u); t++) {
    let weight = weights[t * p.experts + expert];
    if (!(weight > 0.0)) { continue; }
    var others = 0u;
    for (var e = 0u; e < expert; e++) { others += select(0u, 1u, weights[t * p.experts + e] > 0.0); }
    if (others >= p.taken) { continue; }
    rowTokens[row] = t;
    factors[row] = weight;
    row++;
    places[t * p.taken + others] = row;
  }`,
});

/**
 * Groups tokens by the experts that they use: those of which `weights` [T,E] f32 is above 0, at most K of a token. Rows
 * beyond the last group are undefined. @throws RmError INVALID_ARGUMENT.
 */
export function groupByExpert(rec: Recorder, weights: Tensor, out: ExpertRows): void {
  const { begins, tokens: rowTokens, factors, places } = out;
  checkOperands('groupByExpert', rec, { weights, begins, rowTokens, factors, places });
  const [tokens, experts] = checkMatrix('groupByExpert', 'weights', weights);
  const [, taken] = checkMatrix('groupByExpert', 'places', places, ['u32']);
  checkTensor('groupByExpert', 'begins', begins, [experts + 1], ['u32']);
  checkTensor('groupByExpert', 'tokens', rowTokens, [tokens * taken], ['u32']);
  checkTensor('groupByExpert', 'factors', factors, [tokens * taken]);
  checkTensor('groupByExpert', 'places', places, [tokens, taken], ['u32']);
  using scope = new Scope(weights.device);
  const chunks = Math.ceil(tokens / CHUNK);
  const counts = scope.tensor([Math.max(1, chunks), experts], 'u32', 'tokens of experts');
  const totals = scope.tensor([experts], 'u32', 'tokens of experts');
  const bytes = weights.byteLength;
  const work = { flops: weights.size, bytes };
  // Tokens of which no weight is above 0 have no row.
  rec.clear(rowTokens);
  rec.clear(places);
  runFlat(rec, count, [weights, counts], chunks * experts, [experts, tokens], work);
  runFlat(rec, sum, [counts, totals], experts, [chunks], { flops: counts.size, bytes: 8 * counts.size });
  runFlat(rec, begin, [totals, begins], experts + 1, [], { flops: experts ** 2, bytes: 8 * experts });
  const tensors = [weights, counts, begins, rowTokens, factors, places];
  runFlat(rec, place, tensors, chunks * experts, [experts, tokens, taken], work);
}
