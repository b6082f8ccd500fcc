import type { MatrixUnit } from '../../kernels/matmul/builtInChoice.js';
import type { MatrixOperations } from '../../kernels/matmul/matrixOperations.js';

/**
 * Subgroup-matrix operations in plain WGSL, for devices without them: a subgroup is `unit.subgroup` neighbouring threads,
 * an operand is a number of its tile with its place there, and a lane holds every so many sums. Needs only shader-f16.
 *
 * @param tiles names of the tiles that are operands.
 * @param truncating every sum loses its last bit, always towards zero: a unit that rounds worse than any we know of.
 */
export function emulatedMatrices(
  { m, n, k, subgroup }: MatrixUnit,
  tiles: readonly string[],
  truncating = false,
): MatrixOperations {
  const owned = (m * n) / subgroup;
  /** Number of the tile, first element, and the distances of lines and of k. */
  const place = (name: string, tile: string, at: string, line: number, k = 1) =>
    `let ${name} = vec4u(${tiles.indexOf(tile)}u, 4u * (${at}), ${line}u, ${k}u);`;
  const byLines = (name: string, tile: string, at: string, stride: number) =>
    place(name, tile, at, 4 * stride);
  const sum = '(*sums)[i] + f32(element(a, e / N, j)) * f32(element(b, e % N, j))'.replaceAll('N', `${n}u`);
  return {
    enable: 'enable f16;',
    attributes: '',
    subgroupParameter: '',
    declarations: `
var<private> subgroup_lane: u32;
// Loops whose length the compiler does not know: unrolled sixteen times, they would take minutes to compile.
fn unknown(count: u32) -> u32 { return select(0u, count, subgroup_lane < 64u); }
fn element(matrix: vec4u, line: u32, k: u32) -> f16 {
  let at = matrix.y + line * matrix.z + k * matrix.w;
  switch matrix.x {
    ${tiles.map((tile, i) => `case ${i}u: { return ${tile}[at >> 2u][at & 3u]; }`).join('\n')}
    default: { return 0.0h; }
  }
}
fn multiply_accumulate(a: vec4u, b: vec4u, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) {
    let e = ${subgroup}u * i + subgroup_lane;
    for (var j = 0u; j < unknown(${k}u); j++) {
      (*sums)[i] = ${truncating ? `bitcast<f32>(bitcast<u32>(${sum}) & 0xfffffffeu)` : sum};
    }
  }
}
fn store_sums(at: u32, stride: u32, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) {
    let e = ${subgroup}u * i + subgroup_lane;
    let place = 4u * at + e / ${n}u * 4u * stride + e % ${n}u;
    patches[place >> 2u][place & 3u] = (*sums)[i];
  }
}`,
    setup: `let subgroup = thread / ${subgroup}u;\n  subgroup_lane = thread % ${subgroup}u;`,
    sums: `array<f32, ${owned}>`,
    left: byLines,
    right: byLines,
    rightByRows: (name, tile, at, stride) => place(name, tile, at, 1, 4 * stride),
    multiplyAccumulate: (sums, left, right) => `multiply_accumulate(${left}, ${right}, &${sums});`,
    store: (sums, at, stride) => `store_sums(${at}, ${stride}u, &${sums});`,
  };
}
