import '../engine/disposeSymbols.js';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { decodeToF32 } from '../engine/dtype.js';
import { openSafetensorsFile } from '../model/checkpoint/safetensors.js';

/** The repository's root, seen from dist/test/. */
const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** A path within the shared reference material (beside the repository, or RM_SHARED), or undefined without it. */
export function sharedPath(...parts: string[]): string | undefined {
  const path = join(process.env.RM_SHARED ?? join(root, '..', 'shared'), ...parts);
  return existsSync(path) ? path : undefined;
}

/** A path within test/data. */
export const dataPath = (...parts: string[]): string => join(root, 'test', 'data', ...parts);

/** Says what a test leaves out, at the start of a line, where scripts/test.mjs looks for it. */
export const saySkipped = (what: string): void => console.log(`\nskip: ${what}`);

export interface TemporaryFolder {
  readonly path: string;
  [Symbol.dispose](): void;
}

/** An empty folder that is removed at the end of the block: `using folder = temporaryFolder()`. */
export function temporaryFolder(): TemporaryFolder {
  const path = mkdtempSync(join(tmpdir(), 'rm-engine-test-'));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/** Writes files into a folder, which is made where it is missing: texts as they are, values as JSON. */
export function writeFiles(folder: string, files: Readonly<Record<string, string | object>>): void {
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  }
}

export interface GoldenTensor {
  readonly shape: number[];
  readonly values: Float64Array;
}

/** All tensors of a safetensors file as f64 values, also of the types that checkpoints do not have (F64, I32, I64). */
export async function readGolden(path: string): Promise<Map<string, GoldenTensor>> {
  const file = await openSafetensorsFile(path);
  try {
    const tensors = new Map<string, GoldenTensor>();
    for (const [name, entry] of file.entries) {
      const bytes = await file.read(entry, 0, entry.end - entry.begin);
      tensors.set(name, { shape: entry.shape, values: toF64(bytes, entry.storage) });
    }
    return tensors;
  } finally {
    await file.close();
  }
}

function toF64(bytes: Uint8Array, storage: string): Float64Array {
  const { buffer } = bytes;
  switch (storage) {
    case 'F64':
      return new Float64Array(buffer);
    case 'I32':
      return Float64Array.from(new Int32Array(buffer));
    case 'I64':
      return Float64Array.from(new BigInt64Array(buffer), Number);
    case 'F32':
    case 'F16':
    case 'BF16':
      return Float64Array.from(decodeToF32(bytes, storage.toLowerCase() as 'f32' | 'f16' | 'bf16'));
    default:
      throw new Error(`readGolden: ${storage} in a golden file`);
  }
}
