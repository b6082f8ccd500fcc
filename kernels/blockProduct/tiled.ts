import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { type Arithmetic, head, PARTIAL } from './commonWgsl.js';

/** Rows and columns of a workgroup's tile. */
export const TILE_ROWS = 32;
export const TILE_COLUMNS = 64;
/** Each line of A has one vec4 of padding. */
const LINE_A = TILE_ROWS / 4 + 1;
const LINE_B = TILE_COLUMNS / 4;

/**
 * Portable block product for GPUs: 128 invocations, each with 4 x 4 outputs in registers; workgroup memory holds 16 k of
 * both operands at a time, k-major. The tile has as many rows as a diagonal block of cholesky.ts.
 *
 * Tile: 32 x 64. Invocation (x, y) owns columns 4x..4x+3 and rows 4y..4y+3. Needs 6.2 KiB of workgroup memory, 12.5 KiB
 * in double-single.
 */
export function tiledWgsl(arithmetic: Arithmetic, target: ProgramTarget): string {
  const { parts, sum, add, value, spread, multiplyAdd } = arithmetic;
  const each = (line: (part: string) => string) => parts.map(line).join('\n    ');
  // In f32 the next k are on their way while these are multiplied; pairs, with 22 operations a product, wait for no memory.
  const ahead = parts.length === 1;
  // Past the last k the factor is 0.
  const fetch = (start: string) => `{
      let k = min(${start} + kA, end - 1u);
      let k0 = min(${start} + y, end - 1u);
      let k1 = min(${start} + y + 8u, end - 1u);
      let sign = select(0.0, p.sign, ${start} + kA < end);
      ${each(
        part => `a${part} = sign * ${load4(`aMatrix${part}`, 'atA', 'k * p.aColumn')};
      b0${part} = ${load4(`bMatrix${part}`, 'atB', 'k0 * p.bRow')};
      b1${part} = ${load4(`bMatrix${part}`, 'atB', 'k1 * p.bRow')};`,
      )}
    }`;
  return `${head(arithmetic, target)}
${parts
  .map(
    part => `var<workgroup> tileA${part}: array<vec4f, ${PARTIAL * LINE_A}>;
var<workgroup> tileB${part}: array<vec4f, ${PARTIAL * LINE_B}>;`,
  )
  .join('\n')}
@compute @workgroup_size(128) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) thread: u32,
) {
  let row = wid.y * ${TILE_ROWS}u;
  let column = p.firstColumn + wid.x * ${TILE_COLUMNS}u;
  let x = thread % 16u;
  let y = thread / 16u;
  // Neighbouring invocations read neighbouring elements of A, transposed or not.
  let rowsA = select(thread % 8u, y, p.aColumn == 1u);
  let kA = select(thread / 8u, x, p.aColumn == 1u);
  let atB = p.bOffset + columns(column + x * 4u);
  let atA = vec4u(${[0, 1, 2, 3].map(i => `aAt(row + rowsA * 4u + ${i}u)`).join(', ')});
  ${each(part => `var a${part}: vec4f;\n  var b0${part}: vec4f;\n  var b1${part}: vec4f;`)}
  var sums: array<${sum}, 4>;
  for (var chunk = 0u; chunk == 0u || chunk < p.k; chunk += p.chunk) {
  let end = min(p.k, chunk + p.chunk);
  ${lines(4, i => `sums[${i}] = ${sum}();`)}
  ${ahead ? `if (chunk < end) { ${fetch('chunk')} }` : ''}
  for (var start = chunk; start < end; start += ${PARTIAL}u) {
    ${ahead ? '' : fetch('start')}
    workgroupBarrier();
    ${each(
      part => `tileA${part}[kA * ${LINE_A}u + rowsA] = a${part};
    tileB${part}[y * ${LINE_B}u + x] = b0${part};
    tileB${part}[(y + 8u) * ${LINE_B}u + x] = b1${part};`,
    )}
    workgroupBarrier();
    ${ahead ? `if (start + ${PARTIAL}u < end) { ${fetch(`start + ${PARTIAL}u`)} }` : ''}
    ${lines(4, i => `var t${i} = ${sum}();`)}
    for (var kk = 0u; kk < ${PARTIAL}u; kk++) {
      ${parts.map(part => `let va${part} = tileA${part}[kk * ${LINE_A}u + y];`).join(' ')}
      let vb = ${value(part => `tileB${part}[kk * ${LINE_B}u + x]`)};
      ${lines(
        4,
        i =>
          `t${i} = ${multiplyAdd(
            `t${i}`,
            spread(part => `va${part}[${i}]`),
            'vb',
          )};`,
      )}
    }
    ${lines(4, i => `sums[${i}] = ${add(`sums[${i}]`, `t${i}`)};`)}
  }
  // Always 4 rows, but in a loop: four copies of store would be most of the code.
  for (var i = 0u; i < min(4u, p.m); i++) { store(row + y * 4u + i, column + x * 4u, sums[i], chunk == 0u); }
  }
}`;
}

const load4 = (matrix: string, at: string, offset: string): string =>
  `vec4f(${[...'xyzw'].map(c => `${matrix}[${at}.${c} + ${offset}]`).join(', ')})`;
