import { optional, type RmError, record, textLike, whole } from '../../engine/index.js';
import type { ListedFile } from './client.js';
import { isWeightFile } from './neededFiles.js';

/** A file to download. */
export interface RemoteEntry {
  readonly path: string;
  readonly size: number;
  /** Its name in blobs/: the SHA-256 of a large file's content, git's hash of a small file. */
  readonly etag: string;
  readonly hash: { readonly kind: 'sha256' | 'git'; readonly hex: string };
}

/** Most entries of a repository; largest weight file, and largest other file, which is read as a whole. */
const [MOST_ENTRIES, MOST_WEIGHT_BYTES, MOST_TEXT_BYTES] = [100_000, 2 ** 42, 2 ** 28];

const entryForm = record({
  size: whole(),
  oid: textLike(/^[0-9a-f]{40}$/, "git's hash of the file"),
  lfs: optional(record({ oid: textLike(/^[0-9a-f]{64}$/, 'a SHA-256'), size: whole() })),
});

/** Files of rows, like weights, are stored in parts and may be large. */
const isLarge = (path: string): boolean => isWeightFile(path) || path.endsWith('.parquet');

/**
 * The needed files among those that a hub lists.
 *
 * @param choose takes names that are known, none of which leads out of the snapshot's folder.
 * @param fail makes the error for what no hub lists.
 * @throws RmError of `fail`.
 */
export async function neededEntries(
  listed: AsyncIterable<ListedFile>,
  choose: (paths: readonly string[]) => string[],
  fail: (problem: string) => RmError,
): Promise<RemoteEntry[]> {
  const files = new Map<string, ListedFile>();
  let entries = 0;
  for await (const entry of listed) {
    if (++entries > MOST_ENTRIES) throw fail(`its repository lists more than ${MOST_ENTRIES} files`);
    if (entry?.type !== 'file' || typeof entry.path !== 'string') continue;
    if (files.has(entry.path)) throw fail(`its repository lists ${JSON.stringify(entry.path)} twice`);
    files.set(entry.path, entry);
  }
  return withoutTwins(choose([...files.keys()])).map(path => {
    const entry = files.get(path)!;
    const problem = entryForm(entry, '');
    if (problem) throw fail(`${path}: the hub's list is wrong: ${problem}`);
    const { lfs, oid } = entry;
    const size = lfs?.size ?? entry.size;
    if (size > (isLarge(path) ? MOST_WEIGHT_BYTES : MOST_TEXT_BYTES)) {
      throw fail(`${path}: the hub's list gives it ${size} bytes, which no such file has`);
    }
    return {
      ...{ path, size, etag: lfs?.oid ?? oid! },
      hash: lfs ? { kind: 'sha256', hex: lfs.oid } : { kind: 'git', hex: oid! },
    };
  });
}

/** Without names that some systems take for an earlier one: in capitals, or with a dot at the end. */
function withoutTwins(paths: readonly string[]): string[] {
  const seen = new Set<string>();
  return paths.filter(path => {
    const name = path.toLowerCase().replace(/\.+$/, '');
    if (seen.has(name) || path.endsWith('.')) return false;
    seen.add(name);
    return true;
  });
}
