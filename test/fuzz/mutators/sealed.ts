import { sealed } from '../../../engine/index.js';
import { sealedMetadata } from '../../../model/checkpoint/sealedTensors.js';
import type { Mutator } from '../target.js';
import { safetensorsMutator } from './safetensors.js';

const decode = (bytes: Uint8Array): unknown => JSON.parse(new TextDecoder().decode(bytes));
const encode = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

/** Changes a sealed JSON file by `change`, mostly with the hash that belongs to the result. */
export const sealedJsonMutator =
  (change: Mutator): Mutator =>
  (input, random) => {
    const changed = change(input, random);
    if (random.chance(0.1)) return changed;
    try {
      const { sha256: _, ...value } = decode(changed) as Record<string, unknown>;
      return encode(sealed(value));
    } catch {
      return changed;
    }
  };

interface Header {
  __metadata__: { format: string; description: string; tensors: string };
  [tensor: string]: object;
}

/** Changes the description of a sealed tensor file by `change`, or the header, mostly with the hash that belongs to it. */
export const sealedTensorsMutator = (change: Mutator): Mutator =>
  safetensorsMutator((input, random) => {
    try {
      const header = decode(random.chance(0.2) ? change(input, random) : input) as Header;
      const { __metadata__: metadata, ...tensors } = header;
      const description = change(new TextEncoder().encode(metadata.description), random);
      metadata.description = new TextDecoder().decode(description);
      if (random.chance(0.9)) {
        const shaped = Object.entries(tensors).map(([name, { shape }]: [string, { shape?: never }]) => ({
          ...{ name, shape: shape! },
        }));
        const hashes = JSON.parse(metadata.tensors) as Record<string, string>;
        Object.assign(metadata, sealedMetadata(metadata.format, metadata.description, hashes, shaped));
      }
      return encode(header);
    } catch {
      return change(input, random);
    }
  });
