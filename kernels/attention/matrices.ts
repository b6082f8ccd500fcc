import { type ProgramSpec, programFamily } from '../../engine/index.js';
import type { MatrixUnit } from '../matmul/builtInChoice.js';
import { scaledBack, scaleWgsl } from '../matmul/lineExponents.js';
import { deviceMatrices, type MatrixOperations, roundedWgsl } from '../matmul/matrixOperations.js';
import { productsOf } from '../matmul/matrixTiles.js';
import { lines } from '../shared/wgsl.js';
import {
  type AttentionForm,
  bindingsOf,
  firstScore,
  firstSum,
  formKey,
  headLine,
  keysOfTile,
  parameters,
} from './commonWgsl.js';

/** Rows of a workgroup; keys of a tile, and also columns of a panel of v and the depth of a step of q k. */
export const MATRIX_ROWS = 64;
export const MATRIX_KEYS = 32;
const KEYS = MATRIX_KEYS;
const THREADS = 256;
/** vec4 of a staged line, and two of padding, so that the rows of a matrix begin in different banks. */
const WIDTH = KEYS / 4;
const STRIDE = WIDTH + 2;
/** f32 in two f16 parts: three products. */
const PARTS = 2;

/** Workgroup memory in bytes: staged parts, sums, exponents and maxima. */
export const MATRIX_MEMORY =
  8 * PARTS * STRIDE * (MATRIX_ROWS + KEYS) + 16 * MATRIX_ROWS * WIDTH + 8 * KEYS + 8 * THREADS;

/** How many matrices of sums, side by side, each subgroup owns. */
const matricesEach = ({ m, n, subgroup }: MatrixUnit): number =>
  ((MATRIX_ROWS / m) * (KEYS / n) * subgroup) / THREADS;

/** Whether the matrices of a unit divide the tile evenly among subgroups. */
export function fitsAttention(unit: MatrixUnit): boolean {
  const each = matricesEach(unit);
  return each >= 1 && (KEYS / unit.n) % each === 0 && KEYS % unit.k === 0;
}

/** The names of the tiles in workgroup memory, for emulations. */
export const attentionTiles = ['left0', 'left1', 'right0', 'right1'];

/**
 * WGSL of attention for many queries on matrix units, which multiply f16 and sum in f32. A workgroup takes 64 rows (a row
 * is one query of one head, as in tiled.ts) and passes over tiles of 32 keys. q, k and v become two f16 each while they are
 * staged, scaled by a power of two per head of a row, weights too; sums are scaled back and softmax, maxima and results are
 * f32. q k is summed in steps of 32 columns; weights times v goes by panels of 32 columns and leaves the matrix
 * unit after every tile. docs/kernels.md has the bound of the error.
 *
 * `side` is the first exponent of v: exponents has those of q's heads [Tq * heads], k's [Tk * kvHeads] and v's. Thread t
 * stages vec4 t % 8 of line t / 8, and owns vec4 t % 4 and t % 4 + 4 of row t / 4 of the sums. Needs MATRIX_MEMORY bytes
 * of workgroup memory and the features of subgroupMatrix.ts.
 */
export function matricesWgsl(
  headDim: number,
  unit: MatrixUnit,
  form: AttentionForm,
  operations: MatrixOperations = deviceMatrices(unit),
): string {
  const { n, m } = unit;
  const each = matricesEach(unit);
  const across = KEYS / n / each;
  const panels = Math.ceil(headDim / KEYS);
  const halves = (line: (h: number) => string) => lines(2, line);
  // Sums are assigned: what is only declared in a loop keeps its value on some drivers.
  const multiply = (byRows: boolean) => `
    ${lines(each, i => `var sums${i} = ${operations.sums}();`)}
    ${multiplyStep(operations, unit, byRows)}
    ${lines(each, i => operations.store(`sums${i}`, `row * ${WIDTH}u + (column + ${i * n}u) / 4u`, WIDTH))}`;
  const exponentsOf = (what: 'x' | 'y', h: number) =>
    `vec4u(${[0, 1, 2, 3].map(j => `key_exponents[4u * (quarter + ${4 * h}u) + ${j}u].${what}`).join(', ')})`;
  return `${operations.enable}
${parameters(form, 'vec4f')}
@group(0) @binding(${form.sunk ? 7 : 6}) var<storage, read> exponents: array<u32>;
${lines(PARTS, part => `var<workgroup> left${part}: array<vec4<f16>, ${MATRIX_ROWS * STRIDE}>;`)}
${lines(PARTS, part => `var<workgroup> right${part}: array<vec4<f16>, ${KEYS * STRIDE}>;`)}
var<workgroup> patches: array<vec4f, ${MATRIX_ROWS * WIDTH}>;
/** Exponents of k and v. */
var<workgroup> key_exponents: array<vec2u, ${KEYS}>;
/** The largest score and the largest exponent of v that a thread has seen. */
var<workgroup> maxima: array<vec2f, ${THREADS}>;
${operations.declarations}
${headLine}
${roundedWgsl}
${scaledBack}
fn stage_left(line: u32, part: u32, value: vec4f) {
  let large = rounded(value);
  left0[line * ${STRIDE}u + part] = vec4<f16>(large);
  left1[line * ${STRIDE}u + part] = vec4<f16>(value - large);
}
fn stage_right(line: u32, part: u32, value: vec4f) {
  let large = rounded(value);
  right0[line * ${STRIDE}u + part] = vec4<f16>(large);
  right1[line * ${STRIDE}u + part] = vec4<f16>(value - large);
}
@compute @workgroup_size(${THREADS}) ${operations.attributes} fn main(
  ${operations.subgroupParameter} @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  ${operations.setup}
  ${keysOfTile(MATRIX_ROWS)}
  let row = subgroup / ${across}u * ${m}u;
  let column = subgroup % ${across}u * ${each * n}u;
  let line = thread / ${WIDTH}u;
  let part = thread % ${WIDTH}u;
  ${halves(
    h => `
  let line${h} = head_line(min(first_row + line + ${h * KEYS}u, end_row - 1u), group, kv_head);
  let scale${h} = ${scaleWgsl(`exponents[line${h}]`)};
  var next_q${h}: vec4f;`,
  )}
  let own = first_row + thread / 4u;
  let quarter = thread % 4u;
  let own_line = head_line(min(own, end_row - 1u), group, kv_head);
  let own_exponent = exponents[own_line];
  let range = ranges[min(own, end_row - 1u) / group];
  let slot = thread / 4u * ${WIDTH}u + quarter;
  var highest = ${firstScore(form, 'own_line % p.heads')};
  var total = ${firstSum(form, 'quarter == 0u')};
  ${lines(panels, c => halves(h => `var acc${c}_${h} = vec4f();`))}
  for (var start = low; start < high; start += ${KEYS}u) {
    let inside = start + line < high;
    let key_line = min(start + line, high - 1u) * p.kv_heads + kv_head;
    let key_exponent = vec2u(exponents[p.queries * p.heads + key_line], exponents[p.side + key_line]);
    if (part == 0u) { key_exponents[line] = select(vec2u(), key_exponent, inside); }
    let k_scale = ${scaleWgsl('key_exponent.x')};
    let v_scale = select(0.0, ${scaleWgsl('key_exponent.y')}, inside);
    ${lines(each, i => `var scores${i} = ${operations.sums}();`)}
    var next = k[key_line * p.width + min(part, p.width - 1u)];
    ${halves(h => `next_q${h} = q[line${h} * p.width + min(part, p.width - 1u)];`)}
    for (var step = 0u; step < p.width; step += ${WIDTH}u) {
      // Columns beyond the head count as zero.
      let exists = select(0.0, 1.0, step + part < p.width);
      workgroupBarrier();
      ${halves(h => `stage_left(line + ${h * KEYS}u, part, next_q${h} * (scale${h} * exists));`)}
      stage_right(line, part, next * (k_scale * exists));
      workgroupBarrier();
      let ahead = min(step + ${WIDTH}u + part, p.width - 1u);
      next = k[key_line * p.width + ahead];
      ${halves(h => `next_q${h} = q[line${h} * p.width + ahead];`)}
      ${multiplyStep(operations, unit, false, 'scores')}
    }
    ${lines(each, i => operations.store(`scores${i}`, `row * ${WIDTH}u + (column + ${i * n}u) / 4u`, WIDTH))}
    next = v[key_line * p.width + min(part, p.width - 1u)];
    workgroupBarrier();
    var most = highest;
    var exponent = 0u;
    ${halves(
      h => `
    let key${h} = vec4u(start + 4u * (quarter + ${4 * h}u)) + vec4u(0u, 1u, 2u, 3u);
    let in${h} = (key${h} >= vec4u(range.x)) & (key${h} < vec4u(range.y));
    let s${h} = select(
      vec4f(LOWEST),
      score(scaled_back(patches[slot + ${4 * h}u], own_exponent, ${exponentsOf('x', h)}) * p.scale),
      in${h},
    );
    let v${h} = ${exponentsOf('y', h)};
    most = max(most, max(max(s${h}.x, s${h}.y), max(s${h}.z, s${h}.w)));
    exponent = max(exponent, max(max(v${h}.x, v${h}.y), max(v${h}.z, v${h}.w)));`,
    )}
    maxima[thread] = vec2f(most, f32(exponent));
    workgroupBarrier();
    ${lines(
      4,
      i => `
    most = max(most, maxima[thread / 4u * 4u + ${i}u].x);
    exponent = max(exponent, u32(maxima[thread / 4u * 4u + ${i}u].y));`,
    )}
    let old = exp(highest - most);
    highest = most;
    total *= old;
    ${halves(
      h => `
    let w${h} = select(vec4f(), exp(s${h} - most), in${h});
    total += (w${h}.x + w${h}.y) + (w${h}.z + w${h}.w);
    // Weights take the powers of two in which keys differ from the tile's largest; v is staged without them.
    let power${h} = max(vec4i(v${h}) - i32(exponent) + ${127 + 14}, vec4i());
    stage_left(thread / 4u, quarter + ${4 * h}u, w${h} * bitcast<vec4f>(power${h} << vec4u(23u)));`,
    )}
    ${lines(
      panels,
      c => `
    {
      stage_right(line, part, next * select(0.0, v_scale, ${c * WIDTH}u + part < p.width));
      workgroupBarrier();
      ${c + 1 < panels ? `next = v[key_line * p.width + min(${(c + 1) * WIDTH}u + part, p.width - 1u)];` : ''}
      ${multiply(true)}
      workgroupBarrier();
      ${halves(h => `acc${c}_${h} = acc${c}_${h} * old + scaled_back(patches[slot + ${4 * h}u], 127u, vec4u(exponent));`)}
    }`,
    )}
  }
  maxima[thread] = vec2f(total, 0.0);
  workgroupBarrier();
  total = 0.0;
  for (var i = 0u; i < 4u; i++) { total += maxima[thread / 4u * 4u + i].x; }
  ${lines(panels, c =>
    halves(
      h => `
  if (own < end_row && quarter + ${c * WIDTH + 4 * h}u < p.width) {
    out[own_line * p.width + quarter + ${c * WIDTH + 4 * h}u] = select(vec4f(), acc${c}_${h} / total, total > 0.0);
  }`,
    ),
  )}
}`;
}

/** WGSL that adds the products of the staged parts to a subgroup's sums. */
function multiplyStep(
  operations: MatrixOperations,
  unit: MatrixUnit,
  byRows: boolean,
  sums = 'sums',
): string {
  const { n, k } = unit;
  const each = matricesEach(unit);
  const parts = (line: (part: number) => string) => lines(PARTS, line);
  return lines(
    KEYS / k,
    step => `{
      ${parts(part => operations.left(`a${part}`, `left${part}`, `row * ${STRIDE}u + ${(step * k) / 4}u`, STRIDE))}
      ${lines(
        each,
        i => `{
      ${parts(part =>
        byRows
          ? operations.rightByRows(
              `b${part}`,
              `right${part}`,
              `${step * k * STRIDE}u + (column + ${i * n}u) / 4u`,
              STRIDE,
            )
          : operations.right(
              `b${part}`,
              `right${part}`,
              `(column + ${i * n}u) * ${STRIDE}u + ${(step * k) / 4}u`,
              STRIDE,
            ),
      )}
      ${productsOf(PARTS, PARTS)
        .map(([left, right]) => operations.multiplyAccumulate(`${sums}${i}`, `a${left}`, `b${right}`))
        .join('\n')}
      }`,
      )}
    }`,
  );
}

/** Attention for many queries on matrix units; see `matricesWgsl`. */
export const matrices = programFamily(
  (
    headDim: number,
    capped: boolean,
    sunk: boolean,
    m: number,
    n: number,
    k: number,
    subgroup: number,
    sized: boolean,
  ): ProgramSpec => ({
    key: `attention matrices ${m}x${n}x${k} by ${subgroup}, ${headDim}${formKey({ capped, sunk })}`,
    bindings: [...bindingsOf({ capped, sunk }), 'read'],
    wgsl: () => matricesWgsl(headDim, { m, n, k, subgroup, sized }, { capped, sunk }),
  }),
);
