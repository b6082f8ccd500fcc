import { type Scope, type Tensor, tensorFrom } from '../../engine/index.js';
import type { SequenceRows } from '../../kernels/index.js';

/** How linear layers go over a batch: prefixes that sequences share are walked once for each. */
export interface WalkedRows extends SequenceRows {
  /** Where sequences share prefixes: the token of each walked row, u32 [rows], and the walked row of each token, u32 [tokens]. */
  readonly walkedTokens: Tensor | undefined;
  readonly ownRows: Tensor | undefined;
  /** Where sequences have padding: 1 for real tokens, 0 for the rest, f32 [tokens]. */
  readonly real: Tensor | undefined;
}

/** What a `Batch` knows of its rows. */
interface BatchRows {
  readonly sequences: readonly (readonly number[])[];
  readonly places: readonly { readonly place: number; readonly past: number }[];
  readonly rowsOf: readonly (readonly number[])[];
  readonly tokens: number;
  readonly keyRows: Tensor | undefined;
}

/** @param lengths real tokens of every sequence. */
export function walkedRows(
  { sequences, places, rowsOf, tokens, keyRows }: BatchRows,
  lengths: readonly number[],
  scope: Scope,
): WalkedRows {
  const make = (values: Uint32Array | Float32Array, shape: number[], label: string) =>
    scope.own(tensorFrom(scope.device, values, shape, label));
  const filled = sequences.map((ids, s) => ({ ids, s })).filter(({ ids }) => ids.length > 0);
  let first = 0;
  const table = filled.flatMap(({ ids, s }) => {
    const { place, past } = places[s] ?? { place: 0, past: places[0]!.past };
    first += ids.length;
    return [first - ids.length, ids.length, place, past > 0 ? 1 : 0];
  });
  const of = filled.flatMap(({ ids }, n) => ids.map(() => n));
  const own = new Uint32Array(tokens);
  let walked = 0;
  for (const rows of rowsOf) for (const row of rows) own[row] = walked++;
  const real = new Float32Array(tokens);
  for (const [s, rows] of rowsOf.entries()) for (const row of rows.slice(0, lengths[s])) real[row] = 1;
  return {
    sequences: make(Uint32Array.from(table), [filled.length, 4], 'sequences'),
    sequenceOf: make(Uint32Array.from(of), [of.length], 'sequences of rows'),
    walkedTokens: keyRows,
    ownRows: keyRows ? make(own, [tokens], 'walked rows') : undefined,
    real: real.includes(0) ? make(real, [tokens], 'real tokens') : undefined,
  };
}
