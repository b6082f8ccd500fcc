import { readFileSync, writeFileSync } from 'node:fs';

/** A tensor of a safetensors file. */
export interface Entry {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** Reads a safetensors file, byte by byte, without the project's own reader. */
export function readEntries(path: string): Map<string, Entry> {
  const file = readFileSync(path);
  const start = 8 + Number(file.readBigUInt64LE());
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, start));
  return new Map(
    Object.entries<Record<string, never>>(header).map(([name, { dtype, shape, data_offsets }]) => {
      const [begin, end] = data_offsets as unknown as [number, number];
      return [name, { dtype, shape, bytes: file.subarray(start + begin, start + end) }];
    }),
  );
}

/** Writes such a file. */
export function writeEntries(path: string, tensors: ReadonlyMap<string, Entry>): void {
  let at = 0;
  const entries = [...tensors].map(([name, { dtype, shape, bytes }]) => {
    at += bytes.byteLength;
    return [name, { dtype, shape, data_offsets: [at - bytes.byteLength, at] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.byteLength));
  writeFileSync(path, Buffer.concat([length, header, ...[...tensors.values()].map(({ bytes }) => bytes)]));
}
