import { byteSize, programFamily, type Recorder, type Tensor } from '../../engine/index.js';
import { checkMatrix, checkOperands, checkTensor, type FloatType, floats } from '../shared/checks.js';
import { flatProgram, flatType, NAN_BITS, runFlat } from '../shared/flat.js';
import { rowTiles } from '../shared/rowTiles.js';
import { scalarTensor, vec4Tensor } from '../shared/wgsl.js';

const program = programFamily((dtype: FloatType, type: 'f32' | 'vec4f') =>
  flatProgram({
    key: `embedding ${dtype} ${type}`,
    bindings: ['read', 'read', 'write'],
    fields: 'columns: u32, start: u32, end: u32, vocabulary: u32, nan: u32',
    declarations: `${(type === 'vec4f' ? vec4Tensor : scalarTensor)('table', 1, dtype)}
${scalarTensor('ids', 2, 'u32')}
@group(0) @binding(3) var<storage, read_write> out: array<${type}>;`,
    body: `
  let row = i / p.columns;
  let id = ids(row);
  if (id >= p.start && id < p.end) {
    out[i] = table((id - p.start) * p.columns + i % p.columns);
  } else if (id >= p.vocabulary) {
    out[i] = ${type}(bitcast<f32>(p.nan));
  }`,
  }),
);

/**
 * Looks up token embeddings: out[t] = table[ids[t]]; table [V,D] f32|f16|bf16, ids u32 [T], out f32 [T,D]. Ids of V or
 * more give NaN. @throws RmError INVALID_ARGUMENT.
 */
export function embedding(rec: Recorder, table: Tensor, ids: Tensor, out: Tensor): void {
  checkOperands('embedding', rec, { table, ids, out });
  const [vocabulary, columns] = checkMatrix('embedding', 'table', table, floats);
  const tokens = ids.size;
  checkTensor('embedding', 'ids', ids, [tokens], ['u32']);
  checkTensor('embedding', 'out', out, [tokens, columns]);
  const { type, width } = flatType(columns);
  const spec = program(table.dtype as FloatType, type);
  for (const { start, tensor } of rowTiles(table)) {
    runFlat(
      rec,
      spec,
      [tensor, ids, out],
      out.size / width,
      [columns / width, start, start + tensor.rowCount, vocabulary, NAN_BITS],
      { flops: 0, bytes: out.size * (4 + byteSize(table.dtype)) },
    );
  }
}
