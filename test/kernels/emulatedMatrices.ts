import type { MatrixExtents } from '../../kernels/matmul/builtInChoice.js';
import type { MatrixOperations } from '../../kernels/matmul/subgroupMatrix.js';

/**
 * Subgroup-matrix operations in plain WGSL, for devices without them: a subgroup is 32 neighbouring threads, an operand is
 * its place in the tile (offset, step to the next row and to the next column), and a lane holds every 32nd sum. Needs only
 * shader-f16.
 */
export function emulatedMatrices({ m, n, k }: MatrixExtents): MatrixOperations {
  const owned = (m * n) / 32;
  const place = (name: string, order: string, offset: string, stride: number) =>
    `let ${name} = vec3u(${offset}, ${order === 'row_major' ? `${stride}u, 1u` : `1u, ${stride}u`});`;
  return {
    enable: 'enable f16;',
    subgroupParameter: '',
    declarations: `
var<private> subgroup_lane: u32;
// Loops whose length the compiler does not know: unrolled sixteen times, they would take minutes to compile.
fn unknown(count: u32) -> u32 { return select(0u, count, p.m > 0u); }
fn multiply_accumulate(a: vec3u, b: vec3u, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) {
    let e = 32u * i + subgroup_lane;
    for (var j = 0u; j < unknown(${k}u); j++) {
      let left = tile_a[a.x + (e / ${n}u) * a.y + j * a.z];
      let right = tile_b[b.x + j * b.y + (e % ${n}u) * b.z];
      (*sums)[i] += f32(left) * f32(right);
    }
  }
}
fn store_sums(offset: u32, sums: ptr<function, array<f32, ${owned}>>) {
  for (var i = 0u; i < unknown(${owned}u); i++) { patches[offset + 32u * i + subgroup_lane] = (*sums)[i]; }
}`,
    setup: 'let subgroup = thread / 32u;\n  subgroup_lane = thread % 32u;',
    sums: name => `var ${name}: array<f32, ${owned}>;`,
    left: place,
    right: place,
    multiplyAccumulate: (sums, left, right) => `multiply_accumulate(${left}, ${right}, &${sums});`,
    store: (sums, offset) => `store_sums(${offset}, &${sums});`,
  };
}
