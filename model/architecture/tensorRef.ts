/** Some rows of a stored tensor: `runs` runs of `count` rows; the first begins at row `first`, then one every `stride` rows. */
export interface TensorPart {
  readonly name: string;
  readonly first: number;
  readonly count: number;
  readonly stride: number;
  readonly runs: number;
}

/** Several stored matrices of one shape, one below the other. */
export interface TensorStack {
  readonly names: readonly string[];
}

/** Where a checkpoint stores a tensor: under a name, as part of a fused tensor, or as a stack of separate tensors. */
export type TensorRef = string | TensorPart | TensorStack;

export const isStack = (ref: TensorRef): ref is TensorStack => typeof ref !== 'string' && 'names' in ref;

/** The stored tensor's name; for a stack, the name of its first tensor. */
export const storedName = (ref: TensorRef): string =>
  typeof ref === 'string' ? ref : isStack(ref) ? ref.names[0]! : ref.name;

/** A key that tells references apart: the stored name and, for a part, its first row. */
export const refKey = (ref: TensorRef): string =>
  typeof ref === 'string' || isStack(ref) ? storedName(ref) : `${ref.name} from row ${ref.first}`;
