import { also, checkArguments, text, whole } from '../../engine/index.js';
import { aName } from './wgsl.js';

/**
 * WGSL function `name(value: type, lane: u32) -> type` that reduces one value per invocation over a workgroup of `lanes`
 * (a square number) and returns the result to every invocation. `combine` is an expression of `a` and `b`. Consecutive
 * calls need no barrier between them. It has two barriers where a tree would have log2(lanes), since software adapters
 * suspend every invocation at each. Adding `root` partial sums of `root` values also keeps rounding errors small.
 */
export function workgroupReduction(name: string, lanes: number, type: string, combine: string): string {
  const square = also(whole(1), count =>
    Number.isInteger(Math.sqrt(count)) ? undefined : 'lanes is no square number',
  );
  checkArguments(
    'workgroupReduction',
    { name, lanes, type, combine },
    { name: aName, lanes: square, type: text, combine: text },
  );
  const root = Math.sqrt(lanes);
  return /* wgsl */ `
var<workgroup> ${name}_values: array<${type}, ${lanes}>;
var<workgroup> ${name}_partial: array<${type}, ${root}>;
fn ${name}_combine(a: ${type}, b: ${type}) -> ${type} { return ${combine}; }
fn ${name}(value: ${type}, lane: u32) -> ${type} {
  ${name}_values[lane] = value;
  workgroupBarrier();
  if (lane < ${root}u) {
    var sum = ${name}_values[lane];
    for (var i = lane + ${root}u; i < ${lanes}u; i += ${root}u) { sum = ${name}_combine(sum, ${name}_values[i]); }
    ${name}_partial[lane] = sum;
  }
  workgroupBarrier();
  var total = ${name}_partial[0];
  for (var i = 1u; i < ${root}u; i++) { total = ${name}_combine(total, ${name}_partial[i]); }
  return total;
}`;
}

/**
 * WGSL struct `Best` (a value and its index), `better(a, b)` and the reduction `best` over a workgroup. The largest value
 * wins; the lowest index breaks ties. Invocations without a value pass NOTHING.
 */
export const bestReduction = (lanes: number): string => /* wgsl */ `
struct Best { value: f32, index: u32 }
const NOTHING = Best(0.0, 0xffffffffu);
fn better(a: Best, b: Best) -> Best {
  let wins = b.value > a.value || (b.value == a.value && b.index < a.index);
  if (a.index == NOTHING.index || (b.index != NOTHING.index && wins)) { return b; }
  return a;
}
${workgroupReduction('best', lanes, 'Best', 'better(a, b)')}`;
