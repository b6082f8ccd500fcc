import {
  checkArguments,
  type ProgramSpec,
  programFamily,
  type Recorder,
  Scope,
  Tensor,
} from '../../engine/index.js';
import { aMatrix, checkOperands, checkTensor } from '../shared/checks.js';
import type { DoubleSingle } from '../shared/doubleSingle.js';
import { flatProgram, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';

/** Mirrors rows start .. start+width-1, taken from `source` if `copied`, to the rows of out from `first` on. */
const program = programFamily(
  (copied: boolean): ProgramSpec =>
    flatProgram({
      key: `symmetrize${copied ? ', other rows' : ''}`,
      bindings: copied ? ['write', 'read'] : ['write'],
      fields: 'n: u32, first: u32, start: u32, width: u32',
      declarations: `
@group(0) @binding(1) var<storage, read_write> out: array<f32>;
${copied ? '@group(0) @binding(2) var<storage, read> source: array<f32>;' : ''}`,
      body: `
  let row = i / p.width;
  let column = i % p.width;
  if (p.first + row < p.start + column) {
    out[row * p.n + p.start + column] = ${copied ? 'source' : 'out'}[column * p.n + p.first + row];
  }`,
    }),
);

/**
 * Copies the lower triangle of a matrix to the upper one: out[i,j] = out[j,i] for i < j; out [n,n] f32 or double-single.
 *
 * @throws RmError INVALID_ARGUMENT when out is not square.
 */
export function symmetrize(rec: Recorder, out: Tensor | DoubleSingle): void {
  checkOperands('symmetrize', rec, {});
  checkArguments('symmetrize', { out }, { out: aMatrix });
  for (const part of out instanceof Tensor ? [out] : [out.hi, out.lo]) {
    checkTensor('symmetrize', part.label, part, [part.columns, part.columns]);
    symmetrizePart(rec, part);
  }
}

function symmetrizePart(rec: Recorder, out: Tensor): void {
  const n = out.columns;
  const tiles = rowTiles(out);
  using scope = new Scope(out.device);
  tiles.forEach(({ start, tensor: below }, i) => {
    const width = below.rowCount;
    const write = (first: number, tensor: Tensor, source?: Tensor) => {
      const count = tensor.rowCount * width;
      const tensors = source ? [tensor, source] : [tensor];
      const work = { flops: 0, bytes: 8 * count };
      runFlat(rec, program(source !== undefined), tensors, count, [n, first, start, width], work);
    };
    write(start, below);
    if (i === 0) return;
    const copy = scope.tensor([width, n], 'f32', 'lower triangle');
    rec.copy(below, copy);
    for (const tile of tiles.slice(0, i)) write(tile.start, tile.tensor, copy);
  });
}
