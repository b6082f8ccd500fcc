/** What a stored result depends on, by name, in the order in which differences are looked for; plain JSON. */
export type Recipe = Readonly<Record<string, unknown>>;

/** A value for a message; hashes are told apart by their beginnings. */
export const shownValue = (value: unknown): string =>
  (JSON.stringify(value) ?? 'nothing').replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, '$1...');

/** A value as it looks when it has been stored and read again. */
export const storedValue = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null)) as unknown;

/**
 * The first thing of `now` that `there` has otherwise; what `there` does not name differs in nothing. `told`: the
 * difference in words.
 */
export function firstDifference(there: Recipe, now: Recipe): { name: string; told: string } | undefined {
  for (const [name, value] of Object.entries(now)) {
    if (!Object.hasOwn(there, name)) continue;
    const [before, after] = [storedValue(there[name]), storedValue(value)];
    if (JSON.stringify(before) !== JSON.stringify(after)) {
      return { name, told: `the ${name}: ${shownValue(before)} there, ${shownValue(after)} now` };
    }
  }
  return undefined;
}
