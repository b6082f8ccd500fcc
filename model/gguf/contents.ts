import type { GgmlType } from './tensorTypes.js';
import type { GgufValue } from './values.js';

/** The content of a GGUF file, whether it exists or is about to be written. */
export interface GgufContents {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly {
    readonly name: string;
    readonly type: GgmlType;
    readonly shape: readonly number[];
  }[];
  /** Reads all bytes of one of the tensors. */
  bytesOf(tensor: string): Promise<Uint8Array>;
}
