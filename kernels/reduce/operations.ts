import { ensure, RmError } from '../../engine/index.js';
import { type Expression, expressionOf } from '../map/expression.js';

/** A reduction of one's own: `combine` joins `a` and `b` in any order, beginning with `start`; all in f32. */
export interface CustomReduction {
  /** An expression of `a` and `b` (see `map`), e.g. 'a * b'. */
  readonly combine: string;
  /** What changes nothing: combine(start, x) is x. */
  readonly start: number;
  /** An expression of `total` and `count`, the number of elements, e.g. 'sqrt(total / count)'; default: 'total'. */
  readonly finish?: string;
}

/** How elements are reduced to one. */
export type Reduction = 'sum' | 'mean' | 'max' | 'min' | CustomReduction;

/** A checked reduction. */
export interface Operation {
  readonly name: string;
  /** Type of the elements and the result. */
  readonly type: 'f32' | 'u32';
  /** Elements are compared by keys of the same order, in which NaN goes before all; 0 or the largest is no element. */
  readonly keys?: 'max' | 'min';
  readonly start: number;
  readonly combine?: Expression;
  readonly finish?: Expression;
}

const named = {
  sum: { combine: 'a + b', start: 0 },
  mean: { combine: 'a + b', start: 0, finish: 'total / count' },
};

const known = new Map<string, Operation>();

/** Checks a reduction of elements of this type. @throws RmError INVALID_ARGUMENT. */
export function operationOf(kernel: string, reduction: Reduction, type: 'f32' | 'u32'): Operation {
  if (typeof reduction === 'string') {
    const key = `${reduction} ${type}`;
    let operation = known.get(key);
    if (!operation) {
      operation = namedOperation(kernel, reduction, type);
      known.set(key, operation);
    }
    return operation;
  }
  const { combine, start, finish } = reduction ?? {};
  ensure(
    typeof start === 'number' && typeof combine === 'string',
    `${kernel}: the reduction has no \`combine\` or no \`start\``,
    "Pass 'sum', 'mean', 'max' or 'min', or an object such as { combine: 'a * b', start: 1 }.",
  );
  ensure(type === 'f32', `${kernel}: a reduction of one's own of u32`, 'Convert the elements: f32(...).');
  return custom(
    kernel,
    `${combine}, ${start}, ${finish}`,
    { combine, start, ...(finish !== undefined && { finish }) },
    type,
  );
}

function namedOperation(kernel: string, name: string, type: 'f32' | 'u32'): Operation {
  if (name === 'max' || name === 'min')
    return { name, type, keys: name, start: name === 'max' ? 0 : 0xffffffff };
  if (!Object.hasOwn(named, name))
    throw new RmError(
      'INVALID_ARGUMENT',
      `${kernel}: there is no reduction '${name}'`,
      "Pass 'sum', 'mean', 'max' or 'min', or an object such as { combine: 'a * b', start: 1 }.",
    );
  ensure(
    name === 'sum' || type === 'f32',
    `${kernel}: the mean of integers is none`,
    'Reduce floats, e.g. { map: "f32(i)", inputs: { i } } into f32.',
  );
  return custom(kernel, name, named[name as 'sum'], type);
}

function custom(
  kernel: string,
  name: string,
  { combine, start, finish }: CustomReduction,
  type: 'f32' | 'u32',
): Operation {
  return {
    name,
    type,
    start,
    combine: expressionOf(`${kernel}, combine`, combine, { a: type, b: type }, type),
    ...(finish !== undefined && { finish: finishOf(kernel, finish) }),
  };
}

/** `count` is a parameter of the program, which an expression may leave out. */
function finishOf(kernel: string, text: string): Expression {
  const both = { total: 'f32', count: 'f32' } as const;
  return /\bcount\b/.test(text)
    ? expressionOf(`${kernel}, finish`, text, both, 'f32')
    : expressionOf(`${kernel}, finish`, text, { total: 'f32' }, 'f32');
}
