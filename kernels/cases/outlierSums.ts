import { type Device, type Scope, tensorFrom } from '../../engine/index.js';
import { crossGram } from '../gram/crossGram.js';
import { gram } from '../gram/gram.js';
import { clearDoubleSingle, createDoubleSingle, type DoubleSingle } from '../shared/doubleSingle.js';
import { symmetrize } from '../solve/symmetrize.js';
import { normals } from './data.js';

/** Records G [24,24] and C [24,6] of 300 weighted rows with outliers, which go through exact arithmetic. */
export function outlierSums(device: Device, scope: Scope): { g: DoubleSingle; c: DoubleSingle } {
  const { recorder } = device;
  const [rows, m, n] = [300, 24, 6];
  const large = (value: number, i: number) => (i < m ? 1000 * value : value);
  const x = scope.own(tensorFrom(device, normals(rows * m, 1).map(large), [rows, m]));
  const y = scope.own(tensorFrom(device, normals(rows * n, 2), [rows, n]));
  const weights = scope.own(tensorFrom(device, normals(rows, 3).map(Math.abs)));
  const [g, c] = [createDoubleSingle(scope, [m, m]), createDoubleSingle(scope, [m, n])];
  clearDoubleSingle(recorder, g);
  clearDoubleSingle(recorder, c);
  gram(recorder, x, weights, g);
  crossGram(recorder, x, y, weights, c);
  symmetrize(recorder, g);
  return { g, c };
}
