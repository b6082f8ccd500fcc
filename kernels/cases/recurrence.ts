import { type Scope, tensorFrom } from '../../engine/index.js';
import { causalConv } from '../recurrence/causalConv.js';
import { gatedDelta } from '../recurrence/gatedDelta.js';
import type { SequenceRows } from '../recurrence/sequenceRows.js';
import type { FloatType } from '../shared/checks.js';
import type { KernelCase } from './case.js';
import { caseTensor, normals } from './data.js';

/** Lengths of packed sequences; those that go on have a state, in places from the last to the first. */
interface Sequences {
  readonly lengths: readonly number[];
  readonly continues?: boolean;
}

const rowsIn = ({ lengths }: Sequences): number => lengths.reduce((sum, length) => sum + length, 0);

/** Every other sequence that may go on begins anew. */
const places = ({ lengths, continues = false }: Sequences) =>
  lengths.map((length, s) => ({
    first: lengths.slice(0, s).reduce((sum, before) => sum + before, 0),
    length,
    place: lengths.length - 1 - s,
    past: continues && s % 2 === 0,
  }));

function sequenceRows(scope: Scope, given: Sequences): SequenceRows {
  const table = places(given).flatMap(({ first, length, place, past }) => [
    first,
    length,
    place,
    Number(past),
  ]);
  const of = given.lengths.flatMap((length, s) => new Array<number>(length).fill(s));
  const make = (values: number[], shape: number[]) =>
    scope.own(tensorFrom(scope.device, Uint32Array.from(values), shape));
  return { sequences: make(table, [given.lengths.length, 4]), sequenceOf: make(of, [of.length]) };
}

const sequencesName = ({ lengths, continues = false }: Sequences): string =>
  `sequences of ${lengths.join(', ')}${continues ? ', some go on' : ''}`;

interface Conv extends Sequences {
  readonly columns: number;
  readonly kernel: number;
  readonly dtype: FloatType;
  readonly bias?: boolean;
  readonly silu?: boolean;
  readonly bench?: boolean;
}

function convCase(given: Conv): KernelCase {
  const { columns, kernel, dtype, bias = false, silu = false, continues = false, bench = false } = given;
  const rows = rowsIn(given);
  return {
    kernel: 'causalConv',
    name: `${columns} channels ${dtype} of ${kernel}${bias ? ', bias' : ''}${silu ? ', silu' : ''}, ${sequencesName(given)}`,
    flops: 2 * kernel * rows * columns,
    bytes: 8 * rows * columns,
    bench,
    tolerance: 1e-6,
    async setup(scope) {
      const x = await caseTensor(scope, normals(rows * columns, 1), [rows, columns]);
      const weight = await caseTensor(scope, normals(columns * kernel, 2), [columns, 1, kernel], dtype);
      const added = bias ? await caseTensor(scope, normals(columns, 3), [columns]) : undefined;
      const before = (kernel - 1) * columns;
      const state = await caseTensor(scope, normals(given.lengths.length * before, 4), [
        given.lengths.length,
        before,
      ]);
      const states = scope.tensor(state.tensor.shape);
      const output = scope.tensor([rows, columns]);
      const walked = sequenceRows(scope, given);
      return {
        run: rec => {
          // A run replaces the states.
          rec.copy(state.tensor, states);
          causalConv(rec, x.tensor, weight.tensor, output, {
            ...walked,
            silu,
            ...(added && { bias: added.tensor }),
            ...(continues && { states }),
          });
        },
        output,
        reference() {
          const expected = new Float64Array(rows * columns);
          for (const { first, length, place, past } of places(given)) {
            const at = (t: number, c: number) => {
              if (t >= 0) return x.values[(first + t) * columns + c]!;
              return past ? state.values[place * before + (kernel - 1 + t) * columns + c]! : 0;
            };
            for (let t = 0; t < length; t++) {
              for (let c = 0; c < columns; c++) {
                let sum = added?.values[c] ?? 0;
                for (let j = 0; j < kernel; j++)
                  sum += weight.values[c * kernel + j]! * at(t - kernel + 1 + j, c);
                expected[(first + t) * columns + c] = silu ? sum / (1 + Math.exp(-sum)) : sum;
              }
            }
          }
          return { expected };
        },
      };
    },
  };
}

interface Delta extends Sequences {
  readonly keyHeads: number;
  readonly valueHeads: number;
  readonly keyDim: number;
  readonly valueDim: number;
  readonly bench?: boolean;
}

function deltaCase(given: Delta): KernelCase {
  const { keyHeads, valueHeads, keyDim, valueDim, continues = false, bench = false } = given;
  const rows = rowsIn(given);
  const [keys, values] = [keyHeads * keyDim, valueHeads * valueDim];
  return {
    kernel: 'gatedDelta',
    name: `${keyHeads} key heads of ${keyDim}, ${valueHeads} value heads of ${valueDim}, ${sequencesName(given)}`,
    flops: 7 * rows * keyDim * values,
    bytes: 4 * rows * (2 * keys + 2 * values + 2 * valueHeads),
    bench,
    tolerance: 2e-6,
    async setup(scope) {
      const unit = (seed: number) => normals(rows * keys, seed).map(value => value / Math.sqrt(keyDim));
      const share = (seed: number, least: number) =>
        normals(rows * valueHeads, seed).map(value => least + (1 - least) / (1 + Math.exp(-value)));
      const q = await caseTensor(scope, unit(1), [rows, keys]);
      const k = await caseTensor(scope, unit(2), [rows, keys]);
      const v = await caseTensor(scope, normals(rows * values, 3), [rows, values]);
      const decay = await caseTensor(scope, share(4, 0.8), [rows, valueHeads]);
      const beta = await caseTensor(scope, share(5, 0), [rows, valueHeads]);
      const shape = [given.lengths.length, keyDim * values];
      const state = await caseTensor(scope, normals(shape[0]! * shape[1]!, 6), shape);
      const states = scope.tensor(shape);
      const output = scope.tensor([rows, values]);
      const walked = sequenceRows(scope, given);
      const tensors = { q, k, v, decay, beta };
      const inputs = Object.fromEntries(
        Object.entries(tensors).map(([name, { tensor }]) => [name, tensor]),
      ) as unknown as Parameters<typeof gatedDelta>[1];
      return {
        run: rec => {
          rec.copy(state.tensor, states);
          gatedDelta(rec, inputs, output, { ...walked, keyHeads, valueHeads, ...(continues && { states }) });
        },
        output,
        reference() {
          const expected = new Float64Array(rows * values);
          for (const { first, length, place, past } of places(given)) {
            for (let h = 0; h < valueHeads; h++) {
              const memory = new Float64Array(keyDim * valueDim);
              const from = (place * valueHeads + h) * memory.length;
              if (past) memory.set(state.values.subarray(from, from + memory.length));
              for (let t = first; t < first + length; t++) {
                const key = t * keys + Math.floor((h * keyHeads) / valueHeads) * keyDim;
                for (let c = 0; c < valueDim; c++) {
                  const at = t * values + h * valueDim + c;
                  let known = 0;
                  for (let d = 0; d < keyDim; d++) {
                    memory[d * valueDim + c]! *= decay.values[t * valueHeads + h]!;
                    known += memory[d * valueDim + c]! * k.values[key + d]!;
                  }
                  const more = beta.values[t * valueHeads + h]! * (v.values[at]! - known);
                  for (let d = 0; d < keyDim; d++) {
                    memory[d * valueDim + c]! += more * k.values[key + d]!;
                    expected[at]! += memory[d * valueDim + c]! * q.values[key + d]!;
                  }
                }
              }
            }
          }
          return { expected };
        },
      };
    },
  };
}

/** A convolution and a memory over packed sequences, which begin or go on. */
export const recurrenceCases: KernelCase[] = [
  convCase({ lengths: [1], columns: 1, kernel: 2, dtype: 'f32' }),
  convCase({ lengths: [7, 1, 2, 40], columns: 129, kernel: 4, dtype: 'bf16', silu: true }),
  convCase({ lengths: [7, 1, 2, 1, 40], columns: 7, kernel: 4, dtype: 'f16', bias: true, continues: true }),
  convCase({ lengths: [1, 1, 1], columns: 576, kernel: 3, dtype: 'bf16', continues: true, silu: true }),
  convCase({ lengths: [1024, 1024], columns: 2048, kernel: 3, dtype: 'bf16', bench: true }),
  deltaCase({ lengths: [1], keyHeads: 1, valueHeads: 1, keyDim: 1, valueDim: 1 }),
  deltaCase({ lengths: [7, 1, 60], keyHeads: 2, valueHeads: 4, keyDim: 6, valueDim: 5 }),
  deltaCase({ lengths: [3, 129, 1], keyHeads: 3, valueHeads: 3, keyDim: 64, valueDim: 33, continues: true }),
  deltaCase({ lengths: [2, 9], keyHeads: 1, valueHeads: 2, keyDim: 7, valueDim: 70, continues: true }),
  deltaCase({ lengths: [130, 20], keyHeads: 1, valueHeads: 2, keyDim: 256, valueDim: 16, continues: true }),
  deltaCase({ lengths: [64], keyHeads: 16, valueHeads: 32, keyDim: 128, valueDim: 128, bench: true }),
];
