import type { ProgramSpec } from '../../engine/index.js';
import { flatProgram } from '../shared/flat.js';
import {
  declareBindings,
  epilogueKey,
  finish,
  type MatmulLayout,
  outType,
  partialSumBindings,
} from './commonWgsl.js';

const programs = new Map<string, ProgramSpec>();

/**
 * Second half of a product split along k: adds the partial products [splits,M,N] in a fixed order, so that every run gives
 * the same sum, and completes the elements of `out`.
 */
export function partialSumsProgram(layout: MatmulLayout): ProgramSpec {
  const key = `matmul partial sums: ${epilogueKey(layout)}`;
  let cached = programs.get(key);
  if (!cached) {
    cached = makeProgram(key, layout);
    programs.set(key, cached);
  }
  return cached;
}

const makeProgram = (key: string, layout: MatmulLayout): ProgramSpec =>
  flatProgram({
    key,
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
