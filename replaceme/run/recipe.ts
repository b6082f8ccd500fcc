/** Everything that a stored result depends on, by name, in the order in which differences are looked for; plain JSON. */
export type Recipe = Readonly<Record<string, unknown>>;

/** A value for a message, with hashes cut to their first 12 digits. */
export const shownValue = (value: unknown): string =>
  (JSON.stringify(value) ?? 'nothing').replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, '$1...');

/** A value as it looks after it was stored and read again. */
export const storedValue = (value: unknown): unknown => JSON.parse(JSON.stringify(value ?? null)) as unknown;

/**
 * The first entry of `current` that differs from `stored`, by name and in words; entries that `stored` lacks don't count.
 */
export function firstDifference(
  stored: Recipe,
  current: Recipe,
): { name: string; description: string } | undefined {
  for (const [name, value] of Object.entries(current)) {
    if (!Object.hasOwn(stored, name)) continue;
    const [before, after] = [storedValue(stored[name]), storedValue(value)];
    if (JSON.stringify(before) !== JSON.stringify(after)) {
      return { name, description: `the ${name}: ${shownValue(before)} there, ${shownValue(after)} now` };
    }
  }
  return undefined;
}
