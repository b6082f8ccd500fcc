import type { AnswerFilter } from './generationRules.js';
import type { ExactMatchRules } from './metricList.js';
import { askAboutTask, askInGroups } from './templates.js';

/** A generated text, and the texts of which it should be one. */
export interface JudgedText {
  readonly answer: string;
  readonly targets: readonly unknown[];
}

/** What a filter made of an answer; null where its table does not have it. And whether that is a target. */
export type Judgement = readonly [filtered: string | null, right: boolean];

/**
 * Judges answers as lm-eval's filters and its exact match do: both are Python's regular expressions, and run there.
 *
 * @param path of the task file, for messages.
 * @returns for each row what each filter, by name, gave.
 * @throws RmError CONFIG_INVALID where a pattern takes too much time or memory.
 */
export const judgeTexts = (
  path: string,
  rows: readonly JudgedText[],
  filters: readonly AnswerFilter[],
  exactMatch: ExactMatchRules,
): Promise<Readonly<Record<string, Judgement>>[]> =>
  askInGroups(path, rows as readonly (JudgedText & Record<string, unknown>)[], {
    kind: 'judge answers',
    filters: Object.fromEntries(filters.map(({ name, steps }) => [name, steps])),
    exact_match: exactMatch,
  });

/** The lists that texts in brackets spell in Python; null for one that spells none. */
export const readLists = (path: string, texts: readonly string[]): Promise<(string[] | null)[]> =>
  askAboutTask(path, { kind: 'read lists', texts });
