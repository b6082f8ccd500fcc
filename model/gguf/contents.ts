import type { GgmlType } from './tensorTypes.js';
import type { GgufValue } from './values.js';

/** What a GGUF file says of a model, whether it is read or about to be written. */
export interface GgufContents {
  readonly path: string;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly {
    readonly name: string;
    readonly type: GgmlType;
    readonly shape: readonly number[];
  }[];
  /** All bytes of one of the tensors. */
  bytesOf(tensor: string): Promise<Uint8Array>;
}
