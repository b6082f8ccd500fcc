/** How much is measured for a report. */
export type Extent = 'full' | 'light' | 'none';

/** How much the report of a prune measures, and why. */
export interface ReportExtent {
  readonly extent: Extent;
  /** `request`: as the `report` setting says; `time`: full, if that keeps to its share of the run. */
  readonly by: 'request' | 'time';
  /** The share of the run that measuring everything was expected to take; absent where nobody estimated it. */
  readonly fullShare?: number;
  /** The share of the evaluation's tokens that are read. */
  readonly tokenShare: number;
  /** What is not measured, in words. */
  readonly leftOut: readonly string[];
}

/** Expected seconds of an evaluation and of everything else in a run. */
export interface ReportTimes {
  readonly rest: number;
  readonly full: number;
  /** With all tokens. */
  readonly light: number;
}

/** The share of a run that its report may take. */
export const REPORT_SHARE = 0.25;
/** Fewer tokens than this share say too little. */
const LEAST_TOKENS = 1 / 8;

const omitted: Readonly<Record<Extent, readonly string[]>> = {
  full: [],
  light: ['damage by layer', 'samples', 'speeds'],
  none: ['everything'],
};

/**
 * Decides how much to measure: what was asked for, else everything if that takes at most a quarter of the run, else `light`
 * on as many tokens as a quarter allows.
 *
 * @param times undefined where only `asked` decides.
 * @param fixedTokens whether somebody asked for these tokens, which are all measured then.
 */
export function chooseExtent(
  asked: Extent | undefined,
  times: ReportTimes | undefined,
  fixedTokens = false,
): ReportExtent {
  const fullShare = times && times.full / (times.rest + times.full);
  const extent = asked ?? (fullShare !== undefined && fullShare > REPORT_SHARE ? 'light' : 'full');
  const allowed = times ? (REPORT_SHARE / (1 - REPORT_SHARE)) * times.rest : Number.POSITIVE_INFINITY;
  const share = times ? Math.min(1, Math.max(LEAST_TOKENS, allowed / times.light)) : 1;
  return {
    extent,
    by: asked ? 'request' : 'time',
    // What samples take is not measured for a light report.
    ...(fullShare !== undefined && (asked === undefined || asked === 'full') && { fullShare }),
    tokenShare: extent === 'light' && !fixedTokens ? share : extent === 'none' ? 0 : 1,
    leftOut: omitted[extent],
  };
}

const listed = (words: readonly string[], last: 'and' | 'or'): string =>
  `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`;

/** One line for whoever waits: what a report leaves out for the sake of time; undefined where nothing. */
export const extentInWords = ({ extent, by, fullShare = 0, leftOut }: ReportExtent): string | undefined =>
  extent === 'light' && by === 'time'
    ? `the report is light, without ${listed(leftOut, 'and')}: all of it would take about ${Math.round(100 * fullShare)} % of the run (\`report: full\` measures it)`
    : undefined;

/** What a light report leaves out, in sentences for its readers; '' for others. */
export function notMeasured({ extent, tokenShare, leftOut }: ReportExtent): string {
  if (extent !== 'light') return '';
  const fewer =
    tokenShare < 1 ? ` The texts are ${Math.round(100 * tokenShare)} % of what a full report reads.` : '';
  return `This report is light: it has no ${listed(leftOut, 'or')}.${fewer}`;
}
