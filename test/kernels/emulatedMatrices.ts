import type { MatrixUnit } from '../../kernels/matmul/builtInChoice.js';
import type { MatrixOperations } from '../../kernels/matmul/subgroupMatrix.js';

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
  const place = (name: string, tile: string, at: string, stride: number) =>
    `let ${name} = vec3u(${tiles.indexOf(tile)}u, 4u * (${at}), ${4 * stride}u);`;
  const sum = '(*sums)[i] + f32(element(a, e / N, j)) * f32(element(b, e % N, j))'.replaceAll('N', `${n}u`);
  return {
    enable: 'enable f16;',
    attributes: '',
    subgroupParameter: '',
    declarations: `
var<private> subgroup_lane: u32;
// Loops whose length the compiler does not know: unrolled sixteen times, they would take minutes to compile.
fn unknown(count: u32) -> u32 { return select(0u, count, p.m > 0u); }
fn element(matrix: vec3u, line: u32, k: u32) -> f16 {
  let at = matrix.y + line * matrix.z + k;
  switch matrix.x {
    ${tiles.map((tile, i) => `case ${i}u: { return ${tile}[at >> 2u][at & 3u]; }`).join('\n')}
    default: { return 0.0h; }
  }
}
fn multiply_accumulate(a: vec3u, b: vec3u, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) {
    let e = ${subgroup}u * i + subgroup_lane;
    for (var j = 0u; j < unknown(${k}u); j++) {
      (*sums)[i] = ${truncating ? `bitcast<f32>(bitcast<u32>(${sum}) & 0xfffffffeu)` : sum};
    }
  }
}
fn store_sums(at: u32, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) {
    let e = 4u * at + ${subgroup}u * i + subgroup_lane;
    patches[e >> 2u][e & 3u] = (*sums)[i];
  }
}`,
    setup: `let subgroup = thread / ${subgroup}u;\n  subgroup_lane = thread % ${subgroup}u;`,
    sums: `array<f32, ${owned}>`,
    left: place,
    right: place,
    multiplyAccumulate: (sums, left, right) => `multiply_accumulate(${left}, ${right}, &${sums});`,
    store: (sums, at) => `store_sums(${at}, &${sums});`,
  };
}
