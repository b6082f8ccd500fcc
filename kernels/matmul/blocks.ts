import { type OperandLayout, rowDistance } from './commonWgsl.js';

/** The direction along which four values of a block make a vec4. */
type Along = 'lines' | 'k';

/**
 * WGSL function `fetch_x(line, k) -> mat4x4f`: lines line .. line+3 at k .. k+3, zero outside the matrix. A column of the
 * block runs along the lines, one for each k, or along k, one for each line.
 */
export function fetchBlock(name: string, layout: OperandLayout, extent: string, along: Along): string {
  const { kContiguous, aligned } = layout;
  const [outer, inner, length] = kContiguous ? ['line', 'k', 'p.k'] : ['k', 'line', extent];
  const rows = kContiguous ? extent : 'p.k';
  const distance = rowDistance(name, layout, length);
  const asStored = kContiguous === (along === 'k');
  // An aligned row ends at a multiple of 4, so its vec4 are inside or outside as a whole.
  const row = aligned
    ? `fn row_${name}(o: u32, i: u32) -> vec4f {
  if (o < ${rows} && i < ${length}) { return ${name}4(o * ${distance} + i); }
  return vec4f();
}`
    : `fn element_${name}(o: u32, i: u32) -> f32 {
  let value = ${name}(min(o, ${rows} - 1u) * ${distance} + min(i, ${length} - 1u));
  return select(0.0, value, o < ${rows} && i < ${length});
}
fn row_${name}(o: u32, i: u32) -> vec4f {
  return vec4f(${[0, 1, 2, 3].map(j => `element_${name}(o, i + ${j}u)`).join(', ')});
}`;
  return `
${row}
fn fetch_${name}(line: u32, k: u32) -> mat4x4f {
  let block = mat4x4f(${[0, 1, 2, 3].map(i => `row_${name}(${outer} + ${i}u, ${inner})`).join(', ')});
  return ${asStored ? 'block' : 'transpose(block)'};
}`;
}

/**
 * WGSL of the position of block number `block` of a tile: (block along lines, block along k). Neighbouring blocks are
 * neighbours in memory.
 */
export const blockPosition = (
  block: string,
  { kContiguous }: OperandLayout,
  lines: number,
  depth: number,
): string =>
  kContiguous
    ? `vec2u((${block}) / ${depth / 4}u, (${block}) % ${depth / 4}u)`
    : `vec2u((${block}) % ${lines / 4}u, (${block}) / ${lines / 4}u)`;
