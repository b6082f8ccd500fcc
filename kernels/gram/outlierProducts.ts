import type { ProgramTarget } from '../../engine/index.js';
import { lines } from '../shared/wgsl.js';
import { head, type OuterProductsLayout, tileOrigin } from './commonWgsl.js';

/** Rows and columns of a workgroup's tile. */
export const OUTLIER_TILE = 32;

/**
 * Exact sum over the few outlier rows, read straight from storage: workgroups of 8 x 8 invocations, each with 4 x 4
 * elements of out. The list numbers rows of the whole x; the program adds those that are in its piece.
 */
export function outlierWgsl(layout: OuterProductsLayout, target: ProgramTarget): string {
  const { weighted } = layout;
  return `${head(layout, target)}
@group(0) @binding(5) var<storage, read> outlier: array<u32>;
${weighted ? '@group(0) @binding(6) var<storage, read> weights: array<f32>;' : ''}
@compute @workgroup_size(8, 8) fn main(
  @builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_id) lane: vec3u,
) {
  ${tileOrigin(OUTLIER_TILE, OUTLIER_TILE)}
  if (outlier[0] == 0u) { return; }
  let row = row0 + lane.y * 4u;
  let column = column0 + lane.x * 4u;
  ${lines(4, r => `var s${r} = loadRow(row + ${r}u, column);`)}
  for (var i = 1u; i <= outlier[0]; i++) {
    let k = outlier[i] - p.firstToken;
    if (k >= p.rows) { continue; }
    let vx = x(k, p.firstRow + row);
    let z = ${weighted ? 'twoProduct4(vec4f(weights[k]), vx)' : 'Pair4(vx, vec4f())'};
    let v = Pair4(y(k, column), vec4f());
    ${lines(4, r => `s${r} = normalise4(multiplyAdd4(s${r}, Pair4(vec4f(z.hi[${r}]), vec4f(z.lo[${r}])), v));`)}
  }
  ${lines(4, r => `storeRow(row + ${r}u, column, s${r});`)}
}`;
}
