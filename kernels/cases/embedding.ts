import { byteSize, tensorFrom } from '../../engine/index.js';
import { rope, ropeTable } from '../embedding/rope.js';
import { embedding } from '../layout/gatherRows.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

function embeddingCase(tokens: number, columns: number, dtype: FloatType, bench = false): KernelCase {
  const vocabulary = 101;
  return {
    kernel: 'embedding',
    name: `${vocabulary}x${columns} ${dtype}, ${tokens} ids`,
    flops: 0,
    bytes: tokens * columns * (4 + byteSize(dtype)),
    bench,
    tolerance: 0,
    async setup(scope) {
      const table = await caseTensor(scope, normals(vocabulary * columns), [vocabulary, columns], dtype);
      const ids = Uint32Array.from({ length: tokens }, (_, t) => (t * 37 + 100) % vocabulary);
      const idTensor = scope.own(tensorFrom(scope.device, ids));
      const output = scope.tensor([tokens, columns]);
      return {
        run: rec => embedding(rec, table.tensor, idTensor, output),
        output,
        reference: () => ({
          expected: Float64Array.from(
            { length: tokens * columns },
            (_, i) => table.values[ids[Math.floor(i / columns)]! * columns + (i % columns)]!,
          ),
        }),
      };
    },
  };
}

interface RopeShape {
  tokens: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  rotated?: number;
  first?: number;
  interleaved?: boolean;
  bench?: boolean;
}

/** The outputs of the kernel: q and k in place, or q in place and k and v in rows of a cache. */
type RopeOutput = 'q' | 'k' | 'keys' | 'values';
const CACHE = { rows: 7, start: 3 };
/** Rows of a cache in another order than the tokens. */
const cacheRow = (position: number, first: number): number => CACHE.start + position - first;

function ropeCase(shape: RopeShape, result: RopeOutput): KernelCase {
  const {
    tokens,
    heads,
    kvHeads,
    headDim,
    rotated = headDim,
    first = 0,
    interleaved = false,
    bench = false,
  } = shape;
  const stores = result === 'keys' || result === 'values';
  const [columns, kvColumns] = [heads * headDim, kvHeads * headDim];
  return {
    kernel: 'rope',
    name: `${result} of ${tokens}x${heads}/${kvHeads}x${headDim} from position ${first}${rotated < headDim ? `, ${rotated} rotated` : ''}${interleaved ? ', interleaved' : ''}`,
    flops: 3 * tokens * (heads + kvHeads) * rotated,
    bytes: 8 * tokens * (heads + kvHeads) * rotated + 4 * tokens * rotated,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const q = await caseTensor(scope, normals(tokens * columns, 1), [tokens, columns]);
      const k = await caseTensor(scope, normals(tokens * kvColumns, 2), [tokens, kvColumns]);
      const v = await caseTensor(scope, normals(tokens * kvColumns, 3), [tokens, kvColumns]);
      const frequencies = Float64Array.from({ length: rotated / 2 }, (_, j) => 10000 ** ((-2 * j) / rotated));
      const count = first + tokens;
      const scale = 1.25;
      const table = scope.own(
        tensorFrom(scope.device, ropeTable(frequencies, count, scale), [count, rotated]),
      );
      // Descending, so that a kernel that confuses row and position fails.
      const positions = Uint32Array.from({ length: tokens }, (_, t) => count - 1 - t);
      const positionTensor = scope.own(tensorFrom(scope.device, positions));
      const [qTurned, kTurned] = [scope.tensor([tokens, columns]), scope.tensor([tokens, kvColumns])];
      const cached = () => {
        const cache = scope.tensor([tokens + CACHE.rows, kvColumns]);
        scope.device.recorder.clear(cache);
        return cache;
      };
      const rows = scope.own(
        tensorFrom(
          scope.device,
          positions.map(position => cacheRow(position, first)),
        ),
      );
      const store = { v: v.tensor, keys: cached(), values: cached(), rows };
      return {
        run(rec) {
          rec.copy(q.tensor, qTurned);
          rec.copy(k.tensor, kTurned);
          const options = { headDim, interleaved, ...(stores && { store }) };
          rope(rec, qTurned, kTurned, positionTensor, table, options);
        },
        output: { q: qTurned, k: kTurned, keys: store.keys, values: store.values }[result],
        reference() {
          const input = result === 'q' ? q : result === 'values' ? v : k;
          const expected = Float64Array.from(input.values);
          const width = expected.length / tokens;
          for (let at = 0; result !== 'values' && at < expected.length; at += headDim) {
            for (let j = 0; j < rotated / 2; j++) {
              const angle = positions[Math.floor(at / width)]! * frequencies[j]!;
              const [one, two] = interleaved ? [at + 2 * j, at + 2 * j + 1] : [at + j, at + j + rotated / 2];
              const [a, b] = [input.values[one]!, input.values[two]!];
              expected[one] = scale * (a * Math.cos(angle) - b * Math.sin(angle));
              expected[two] = scale * (b * Math.cos(angle) + a * Math.sin(angle));
            }
          }
          if (!stores) return { expected };
          const cache = new Float64Array((tokens + CACHE.rows) * kvColumns);
          for (const [t, position] of positions.entries()) {
            const row = expected.subarray(t * kvColumns, (t + 1) * kvColumns);
            cache.set(row, cacheRow(position, first) * kvColumns);
          }
          return { expected: cache };
        },
      };
    },
  };
}

const ropeShapes: RopeShape[] = [
  { tokens: 1, heads: 1, kvHeads: 1, headDim: 2 },
  { tokens: 7, heads: 3, kvHeads: 3, headDim: 16 },
  { tokens: 9, heads: 4, kvHeads: 1, headDim: 128, first: 8183 },
  { tokens: 7, heads: 2, kvHeads: 2, headDim: 80, rotated: 32 },
  { tokens: 7, heads: 2, kvHeads: 1, headDim: 12, rotated: 8, interleaved: true },
];

export const embeddingCases: KernelCase[] = [
  embeddingCase(1, 7, 'f32'),
  embeddingCase(7, 129, 'f16'),
  embeddingCase(129, 576, 'bf16', true),
  embeddingCase(129, 1000, 'f16'),
  embeddingCase(5, 1, 'bf16'),
  ...ropeShapes.flatMap(shape =>
    (['q', 'k', 'keys', 'values'] as const).map(result => ropeCase(shape, result)),
  ),
  ropeCase({ tokens: 129, heads: 9, kvHeads: 3, headDim: 64, bench: true }, 'q'),
];
