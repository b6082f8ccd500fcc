import {
  also,
  anything,
  byteSize,
  type DType,
  elementCount,
  type Form,
  finite,
  hashText,
  isRecord,
  listOf,
  oneOf,
  record,
  tableOf,
  text,
  whole,
} from '../../engine/index.js';
import { arrays, type Stored } from './storedValues.js';

/** The forms of a run's state on disk: see storedValues.ts. */

const dtype = oneOf('f32', 'f16', 'bf16', 'u32');
const shape = listOf(whole());

const placed = { place: oneOf('file', 'here'), bytes: text };
const tensorForm = record({ shape, dtype, label: text, index: whole(), ...placed });
const spilledForm = record({ shape, dtype, byteLength: whole(), ...placed });
const arrayForm = record({
  type: oneOf(...(Object.keys(arrays) as (keyof typeof arrays)[])),
  byteLength: whole(),
  ...placed,
});

const bytesOfTensor = ({ shape, dtype }: { shape: readonly number[]; dtype: DType }): number =>
  elementCount(shape) * byteSize(dtype);

interface Placed {
  readonly place: 'file' | 'here';
  readonly bytes: string;
}

/** Checks a place of bytes too: the name of a file is a hash, so it cannot lead out of the folder. */
const checked =
  <T extends Placed>(form: Form<T>, byteLength: (value: T) => number): Form<T> =>
  (value, at) => {
    const problem = form(value, at);
    if (problem) return problem;
    const { place, bytes } = value as T;
    if (place === 'file') return hashText(bytes, `${at}.bytes`);
    const [has, needs] = [Buffer.byteLength(bytes, 'base64'), byteLength(value as T)];
    return has === needs ? undefined : `${at} has ${has} bytes instead of ${needs}`;
  };

const tags: Readonly<Record<string, Form<unknown>>> = {
  $undefined: oneOf(true),
  $number: oneOf('NaN', 'Infinity', '-Infinity', '-0'),
  $map: (value, at) =>
    listOf(storedForm)(value, at) ??
    ((value as []).length % 2 === 0 ? undefined : `${at} has a key without a value`),
  $tensor: checked(tensorForm, bytesOfTensor),
  $spilled: checked(
    also(spilledForm, tensor =>
      tensor.byteLength === bytesOfTensor(tensor)
        ? undefined
        : 'a tensor has another number of bytes than its shape',
    ),
    ({ byteLength }) => byteLength,
  ),
  $array: checked(
    also(arrayForm, ({ type, byteLength }) =>
      byteLength % arrays[type].BYTES_PER_ELEMENT === 0 ? undefined : 'an array ends within a number',
    ),
    ({ byteLength }) => byteLength,
  ),
};

/** A value that `stored` made. */
export const storedForm: Form<Stored> = (value, at) => {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return undefined;
  if (typeof value === 'number') return finite()(value, at);
  if (Array.isArray(value)) return listOf(storedForm)(value, at);
  if (!isRecord(value)) return `${at} is no value`;
  const tag = Object.keys(value).find(key => key.startsWith('$'));
  if (tag === undefined) return tableOf(storedForm)(value, at);
  if (!Object.hasOwn(tags, tag) || Object.keys(value).length > 1) return `${at} has the unknown field ${tag}`;
  return tags[tag]!(value[tag], `${at}.${tag}`);
};

/** A run's state. */
export const stateForm = record({
  recipe: tableOf(anything),
  done: tableOf(storedForm),
  cursors: tableOf(whole()),
  live: tableOf(storedForm),
});

export const headForm = record({ format: text, sha256: hashText });
