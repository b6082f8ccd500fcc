import { byteSize, type DType, elementCount, RmError } from '../../engine/index.js';
import { type Architecture, expectedTensors } from '../architecture/architecture.js';
import type { Checkpoint, TensorInfo } from './checkpoint.js';

/** The headers of weights that are not here: the tensors that an architecture reads, in one number type. */
export function expectedCheckpoint(path: string, arch: Architecture, dtype: DType): Checkpoint {
  const tensors = new Map(
    expectedTensors(arch).map(({ name, shape }): [string, TensorInfo] => [
      name,
      { name, dtype, shape: [...shape], byteLength: elementCount(shape) * byteSize(dtype) },
    ]),
  );
  const missing = (what: string) =>
    new RmError(
      'CHECKPOINT_MISSING',
      `${path} has no ${what}`,
      'Get the weights too: this needs more than config.json.',
    );
  const unread = async (name: string): Promise<never> => {
    throw missing(`weights, so '${name}' cannot be read`);
  };
  return {
    path,
    names: [...tensors.keys()],
    totalBytes: [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0),
    has: name => tensors.has(name),
    opaque: () => undefined,
    info: name => {
      const info = tensors.get(name);
      if (!info) throw missing(`tensor '${name}'`);
      return info;
    },
    read: unread,
    readRange: unread,
    readInto: unread,
    close: async () => {},
  };
}
