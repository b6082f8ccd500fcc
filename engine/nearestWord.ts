/** Edits (insert, delete, replace, swap two neighbours) that turn one word into the other. */
function distance(a: string, b: string): number {
  const rows = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(rows[i - 1]![j]! + 1, row[j - 1]! + 1, rows[i - 1]![j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j]!, rows[i - 2]![j - 2]! + 1);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

/** Letters and digits alone: "ReplaceMe_LS" and "replaceme-ls" differ in nothing. */
const bare = (word: string): string => word.toLowerCase().replace(/[^\p{L}\p{N}]/gu, '');

/** Longer words are no slip of the pen, and would take long to compare. */
const LONGEST = 64;

/**
 * The known word that somebody most likely meant: it differs in case and hyphens only, in few letters, or is the only one
 * that begins so.
 */
export function nearestWord(word: string, known: readonly string[]): string | undefined {
  const meant = bare(word);
  if (meant === '' || meant.length > LONGEST) return undefined;
  const beginning = known.filter(name => meant.length > 2 && bare(name).startsWith(meant));
  if (beginning.length === 1) return beginning[0];
  const [best] = known
    .map(name => ({ name, edits: distance(meant, bare(name)) }))
    .filter(
      ({ name, edits }) => edits <= Math.max(1, Math.floor(Math.max(meant.length, bare(name).length) / 3)),
    )
    .sort((a, b) => a.edits - b.edits);
  return best?.name;
}

/** "Did you mean refit? ", or nothing: the beginning of a fix. */
export function didYouMean(word: string, known: readonly string[]): string {
  const name = nearestWord(word, known);
  return name === undefined ? '' : `Did you mean ${name}? `;
}
