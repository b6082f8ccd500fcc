import type { ProgramSpec } from '../../engine/index.js';
import { flatProgram } from '../flat.js';
import {
  declareBindings,
  epilogueKey,
  finish,
  type MatmulLayout,
  outType,
  partialSumBindings,
} from './parts.js';

/**
 * Second half of a product split along k: adds the partial products [splits,M,N] in their order, so that the sum is
 * the same on every run, and completes the elements of `out`.
 */
export const partialSumsProgram = (layout: MatmulLayout): ProgramSpec =>
  flatProgram({
    key: `matmul partial sums: ${epilogueKey(layout)}`,
    bindings: partialSumBindings(layout).map(({ access }) => access),
    fields: 'columns: u32, splits: u32',
    declarations: `
alias T = ${outType(layout)};
${declareBindings(partialSumBindings(layout))}
${finish(layout)}`,
    body: `  var sum = partials[i];
  for (var s = 1u; s < p.splits; s++) { sum += partials[s * p.count + i]; }
  out[i] = finish(i, i % p.columns, sum);`,
  });
