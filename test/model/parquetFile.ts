/** Parquet files of one column of texts, written byte by byte, so that they can claim what they do not hold. */

type Value = readonly [type: number, bytes: readonly number[]];

/** Types of Thrift's compact protocol. */
const [I32, I64, BINARY, LIST, STRUCT] = [5, 6, 8, 9, 12];

export const varint = (value: number | bigint): number[] => {
  const bytes: number[] = [];
  let left = BigInt(value);
  for (; left > 127n; left >>= 7n) bytes.push(Number(left & 127n) | 128);
  return [...bytes, Number(left)];
};
const zigzag = (value: number | bigint) =>
  varint(BigInt(value) >= 0 ? BigInt(value) * 2n : -2n * BigInt(value) - 1n);
const i32 = (value: number): Value => [I32, zigzag(value)];
const i64 = (value: number | bigint): Value => [I64, zigzag(value)];
const text = (value: string): Value => [BINARY, [...varint(value.length), ...Buffer.from(value)]];
const list = (type: number, items: readonly Value[]): Value => [
  LIST,
  [(items.length << 4) | type, ...items.flatMap(([, bytes]) => bytes)],
];
function struct(fields: Readonly<Record<number, Value>>): Value {
  let before = 0;
  const bytes = Object.entries(fields).flatMap(([id, [type, value]]) => {
    const delta = Number(id) - before;
    before = Number(id);
    return [(delta << 4) | type, ...value];
  });
  return [STRUCT, [...bytes, 0]];
}

const u32 = (value: number): number[] => [...Buffer.from(Uint32Array.of(value).buffer)];

/** Texts in the encoding PLAIN. */
export const plain = (...texts: string[]): number[] =>
  texts.flatMap(value => [...u32(value.length), ...Buffer.from(value)]);

interface Page {
  readonly bytes: readonly number[];
  /** Claimed number of values. */
  readonly values: number;
  /** Claimed size without compression (default: the size of `bytes`). */
  readonly size?: number;
  /** 0: PLAIN (default), 8: indices into the dictionary. */
  readonly encoding?: number;
}

const pageBytes = ({ bytes, values, size = bytes.length, encoding = 0 }: Page, dictionary: boolean) => [
  ...struct({
    1: i32(dictionary ? 2 : 0),
    2: i32(size),
    3: i32(bytes.length),
    ...(dictionary
      ? { 7: struct({ 1: i32(values), 2: i32(0) }) }
      : { 5: struct({ 1: i32(values), 2: i32(encoding), 3: i32(3), 4: i32(3) }) }),
  })[1],
  ...bytes,
];

/** A file with one page, and the dictionary that it refers to. @param codec 0: none, 1: Snappy. */
export function parquetFile(options: {
  page: Page;
  dictionary?: Page;
  rows: number | bigint;
  codec?: number;
}): Buffer {
  const { page, dictionary, rows, codec = 0 } = options;
  const pages = [...(dictionary ? pageBytes(dictionary, true) : []), ...pageBytes(page, false)];
  const schema = list(STRUCT, [
    struct({ 4: text('schema'), 5: i32(1) }),
    struct({ 1: i32(6), 3: i32(0), 4: text('text'), 6: i32(0) }),
  ]);
  const column = struct({
    2: i64(4),
    3: struct({
      ...{ 1: i32(6), 2: list(I32, [i32(0)]), 3: list(BINARY, [text('text')]), 4: i32(codec), 5: i64(rows) },
      ...{ 6: i64(pages.length), 7: i64(pages.length), 9: i64(4) },
    }),
  });
  const group = struct({ 1: list(STRUCT, [column]), 2: i64(pages.length), 3: i64(rows) });
  const [, metadata] = struct({ 1: i32(1), 2: schema, 3: i64(rows), 4: list(STRUCT, [group]) });
  return Buffer.from([
    ...Buffer.from('PAR1'),
    ...pages,
    ...metadata,
    ...u32(metadata.length),
    ...Buffer.from('PAR1'),
  ]);
}
