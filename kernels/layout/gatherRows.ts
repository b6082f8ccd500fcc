import {
  byteSize,
  type DType,
  programFamily,
  type Recorder,
  Scope,
  type Tensor,
} from '../../engine/index.js';
import { convert } from '../map/named.js';
import { checkMatrix, checkOperands, checkTensor, floats } from '../shared/checks.js';
import { flatProgram, flatType, NAN_BITS, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';
import { elementType, scalarTensor, vec4Tensor } from '../shared/wgsl.js';

const program = programFamily((dtype: DType, vector: boolean) => {
  const type = elementType(dtype, vector);
  return flatProgram({
    key: `gatherRows ${dtype} ${type}`,
    bindings: ['read', 'read', 'write'],
    fields: 'columns: u32, start: u32, end: u32, vocabulary: u32, nothing: u32',
    declarations: `${(vector ? vec4Tensor : scalarTensor)('table', 1, dtype)}
${scalarTensor('ids', 2, 'u32')}
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;`,
    body: `
  let row = i / p.columns;
  let id = ids(row);
  if (id >= p.start && id < p.end) {
    out[i] = table((id - p.start) * p.columns + i % p.columns);
  } else if (id >= p.vocabulary) {
    out[i] = ${type}(bitcast<${elementType(dtype, false)}>(p.nothing));
  }`,
  });
});

/**
 * Collects rows: out[t] = table[ids[t]]; table [V,N], ids [T] u32, out [T,N]: both of any float dtype, or both u32. Ids of V
 * or more give NaN (4294967295 in u32). The table may be larger than a binding. @throws RmError INVALID_ARGUMENT.
 */
export function gatherRows(rec: Recorder, table: Tensor, ids: Tensor, out: Tensor): void {
  checkOperands('gatherRows', rec, { table, ids, out });
  gather(rec, 'gatherRows', table, ids, out, table.dtype === 'u32' ? ['u32'] : floats);
}

/**
 * Looks up token embeddings: `gatherRows` of a table [V,D] f32, f16 or bf16 into out f32 [T,D].
 *
 * @throws RmError INVALID_ARGUMENT.
 */
export function embedding(rec: Recorder, table: Tensor, ids: Tensor, out: Tensor): void {
  checkOperands('embedding', rec, { table, ids, out });
  gather(rec, 'embedding', table, ids, out, ['f32']);
}

function gather(
  rec: Recorder,
  kernel: string,
  table: Tensor,
  ids: Tensor,
  out: Tensor,
  dtypes: readonly DType[],
): void {
  const [rows, columns] = checkMatrix(kernel, 'table', table, dtypes[0] === 'u32' ? dtypes : floats);
  const tokens = ids.size;
  checkTensor(kernel, 'ids', ids, [tokens], ['u32']);
  checkTensor(kernel, 'out', out, [tokens, columns], dtypes);
  using scope = new Scope(out.device);
  // Rows of 16-bit elements may end within a word.
  const wide = byteSize(out.dtype) === 2 ? scope.tensor(out.shape, 'f32', 'wide rows') : out;
  const { type, width } = flatType(columns);
  const nothing = table.dtype === 'u32' ? 0xffffffff : NAN_BITS;
  for (const { start, tensor } of rowTiles(table)) {
    const params = [columns / width, start, start + tensor.rowCount, rows, nothing];
    runFlat(rec, program(table.dtype, type === 'vec4f'), [tensor, ids, wide], wide.size / width, params, {
      flops: 0,
      bytes: out.size * (4 + byteSize(table.dtype)),
    });
  }
  if (wide !== out) convert(rec, wide, out);
}
