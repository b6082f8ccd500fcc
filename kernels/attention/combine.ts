import type { ProgramSpec } from '../../engine/index.js';
import { flatProgram } from '../shared/flat.js';

/**
 * Adds up the results of a head's chunks of keys, in order. `storeColumn` and `storeTotals` write `partial`
 * [heads, chunks, width + 1]; each chunk's sum is relative to its own maximum. One invocation per vec4 of `out`.
 */
export const combine: ProgramSpec = flatProgram({
  key: 'attention combine',
  bindings: ['read', 'write'],
  fields: 'width: u32, chunks: u32',
  declarations: `
@group(0) @binding(1) var<storage, read> partial: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;`,
  body: `
  let column = i % p.width;
  let first = (i / p.width) * p.chunks * (p.width + 1u);
  let end = first + p.chunks * (p.width + 1u);
  var most = -1.0e38;
  for (var at = first; at < end; at += p.width + 1u) { most = max(most, partial[at + p.width].x); }
  var total = 0.0;
  var sum = vec4f(0.0);
  for (var at = first; at < end; at += p.width + 1u) {
    let totals = partial[at + p.width];
    let factor = exp(totals.x - most);
    total += factor * totals.y;
    sum += factor * partial[at + column];
  }
  out[i] = select(vec4f(0.0), sum / total, total > 0.0);`,
});
