import type { PruneEvaluation } from './pruneEvaluation.js';

/** How much a model changed by pruning. The bounds and how they were set: docs/results.md. */
export type Band = 'hardly changed' | 'slightly damaged' | 'clearly damaged' | 'badly damaged' | 'broken';

/** What pruning did to a language model, and what to do about it. */
export interface Verdict {
  readonly band: Band;
  /** Mean KL to the original over all evaluated texts in nats, and the share of places with the same most likely token. */
  readonly kl: number;
  readonly top1: number;
  /** KL of the best model whose layers were only removed, where it was measured. */
  readonly plainKl?: number;
  /** One or two sentences; settings are named in backticks. */
  readonly sentence: string;
}

/** What a verdict depends on besides the evaluation. */
export interface VerdictFacts {
  /** Removed layers. */
  readonly removed: number;
  readonly method: string;
  /** A method that repairs more, if there is one for this model. */
  readonly better?: string | undefined;
  /** Calibration tokens, and the unknowns that each regression of the fit solves for; absent where nothing is fitted. */
  readonly fit?: { readonly tokens: number; readonly unknowns: number };
  /** Calibration files that were read. */
  readonly files: number;
  /** Whether the models were evaluated on the rest of the calibration files. */
  readonly sameTexts: boolean;
}

/** KL in nats below which a model is in a band. */
export const bands: readonly (readonly [band: Band, below: number])[] = [
  ['hardly changed', 0.1],
  ['slightly damaged', 0.3],
  ['clearly damaged', 0.7],
  ['badly damaged', 2],
  ['broken', Number.POSITIVE_INFINITY],
];

/** Fewer tokens for each unknown of a regression leave much of it to chance. */
export const TOKENS_PER_UNKNOWN = 10;

/** Repetition of greedy text above the original's, as a share of 4-grams, that a reader notices. */
const REPEATS = 0.25;

/** Removing this share of the layers instead about halves the damage. */
const FEWER = 0.6;

const counted = (count: number, what: string): string =>
  `${count.toLocaleString('en-US')} ${what}${count === 1 ? '' : 's'}`;

const numberOf = (kl: number): string => (kl < 0.01 ? kl.toPrecision(1) : kl.toFixed(2));

/** Means over all texts, weighted by their tokens. */
function overall({ texts, models }: PruneEvaluation, role: 'plain' | 'result') {
  const measured = models.find(model => model.role === role);
  if (!measured) return undefined;
  const total = texts.reduce((sum, { tokens }) => sum + tokens, 0);
  const mean = (of: 'kl' | 'top1') =>
    measured.eval.reduce((sum, file, f) => sum + file[of] * texts[f]!.tokens, 0) / total;
  return { kl: mean('kl'), top1: mean('top1') };
}

/** Mean share of repeated 4-grams in a model's samples; undefined without samples. */
function repetition({ samples }: PruneEvaluation, role: string): number | undefined {
  const values = samples.flatMap(({ continuations }) =>
    continuations.filter(({ model }) => model === role).map(({ repetition: share }) => share),
  );
  return values.length > 0 ? values.reduce((sum, value) => sum + value, 0) / values.length : undefined;
}

/** Whether the pruned model's greedy text repeats itself and the original's does not. */
const repeatsItself = (evaluation: PruneEvaluation): boolean =>
  (repetition(evaluation, 'result') ?? 0) - (repetition(evaluation, 'dense') ?? 0) > REPEATS;

const hasFewTokens = ({ fit }: VerdictFacts): boolean =>
  fit !== undefined && fit.tokens < TOKENS_PER_UNKNOWN * fit.unknowns;

/** What may help, the cheapest first. */
function remedies(facts: VerdictFacts): string[] {
  const { fit, removed, better } = facts;
  const fewer = Math.max(1, Math.floor(FEWER * removed));
  return [
    ...(fit && hasFewTokens(facts)
      ? [`more \`calibration\` (${counted(fit.tokens, 'token')} is little for ${counted(removed, 'layer')})`]
      : []),
    ...(better === undefined ? [] : [`\`method: ${better}\``]),
    ...(fewer < removed ? [counted(fewer, 'layer')] : []),
  ];
}

const listed = (words: readonly string[]): string =>
  words.length < 3 ? words.join(' or ') : `${words.slice(0, -1).join(', ')}, or ${words.at(-1)}`;

/** What a prune did to a language model, in words that somebody can act on. */
export function verdictOf(evaluation: PruneEvaluation, facts: VerdictFacts): Verdict {
  const { kl, top1 } = overall(evaluation, 'result')!;
  const plain = overall(evaluation, 'plain');
  const band = bands.find(([, below]) => kl < below)?.[0] ?? 'broken';
  const repeats = repeatsItself(evaluation) ? 'it repeats itself; ' : '';
  const agreement = `${repeats}the same next token in ${Math.floor(100 * top1)} % of places`;
  const found = `KL ${numberOf(kl)}: ${band} (${agreement}).`;
  const inVain =
    plain && plain.kl <= kl && facts.fit
      ? ` Removing layers without repair does no worse (KL ${numberOf(plain.kl)}): use \`method: plain\`, or fit on other texts.`
      : '';
  const help = band === 'hardly changed' && !repeats ? [] : remedies(facts);
  const advice = help.length > 0 ? ` Try ${listed(help)}.` : '';
  return {
    band,
    ...{ kl, top1 },
    ...(plain && { plainKl: plain.kl }),
    sentence: found + (inVain || advice),
  };
}

/** What to know before trusting a pruned language model, in sentences. */
export function damageWarnings(evaluation: PruneEvaluation | undefined, facts: VerdictFacts): string[] {
  const { fit, files, sameTexts } = facts;
  return [
    ...(fit && hasFewTokens(facts)
      ? [
          `${counted(fit.tokens, 'calibration token')} is little: each regression has ${counted(fit.unknowns, 'unknown')}, ` +
            `and ${(TOKENS_PER_UNKNOWN * fit.unknowns).toLocaleString('en-US')} tokens or more fit it better`,
        ]
      : []),
    ...(fit && evaluation && files === 1 && sameTexts
      ? [
          'calibrated and measured on one file alone: on other kinds of text the damage may be larger (`evaluation` measures it)',
        ]
      : []),
    ...(evaluation && repeatsItself(evaluation)
      ? ['the pruned model repeats itself in the samples of the report, and the original does not']
      : []),
  ];
}
