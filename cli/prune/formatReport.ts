import { formatBytes } from '../../engine/format.js';
import type { PruneReport, WindowScores } from '../../replaceme/index.js';
import { closedFormInWords, fitInWords } from '../../replaceme/report/text/fitWords.js';
import { formatFields, formatTable, right } from '../../replaceme/report/text/textTable.js';
import { healingFields, small } from './healingFields.js';

/** A list in lines of no more than `width` characters. */
function lines(list: string, width = 72): string {
  const found: string[] = [];
  for (const item of list.split(', ')) {
    const longer = found.length > 0 ? `${found.at(-1)}, ${item}` : item;
    if (found.length > 0 && longer.length <= width) found[found.length - 1] = longer;
    else found.push(item);
  }
  return found.join(',\n');
}

/** How it was done, for --verbose; --json has all of it. */
export function formatDetails(report: PruneReport): string {
  const { calibration, selection, verification } = report;
  const distance = selection.distances?.[selection.windows[0]!.layer];
  return formatFields([
    ['chosen by', `${selection.by}${distance === undefined ? '' : ` (${small(distance)})`}`],
    [
      'method',
      `${report.method}${closedFormInWords(report.recipe)
        .map(words => `, with ${words}`)
        .join('')}`,
    ],
    ...(report.healing ? healingFields(report.healing) : []),
    ...Object.entries(report.fit).map(
      ([name, value]) =>
        [
          `  ${fitInWords(name)}`,
          typeof value === 'number' && !Number.isInteger(value) ? small(value) : lines(`${value}`),
        ] as const,
    ),
    ...(calibration.tokens > 0
      ? [['calibration', `${calibration.tokens} tokens in ${calibration.sequences} sequences`] as const]
      : []),
    [
      'verified',
      `what was written loaded again, ${report.imageEvaluation ? 'embeddings' : 'logits'} differ by ${small(verification.maxLogitDifference)} at most (${verification.tokens} tokens)`,
    ],
    ['adapter', report.adapter.description],
    [
      'device memory',
      `${formatBytes(report.peakMemoryBytes)} at the most${report.plan ? `, ${formatBytes(report.plan.memory.total)} planned` : ''}`,
    ],
  ]);
}

/** The sets of windows that were tried, best first, for --verbose. */
export function formatCandidates(candidates: readonly WindowScores[]): string {
  return formatTable(
    [
      { title: 'candidate' },
      right('cosine'),
      right('residual'),
      right('KL'),
      right('nll'),
      right('tokens'),
      { title: '' },
    ],
    candidates.map(({ windows, cosine, residual, kl, nll, tokens, healed }) => [
      windows.map(({ layer, count }) => `(${layer}, ${count})`).join(' + '),
      ...[cosine, residual, kl, nll].map(value => value.toFixed(4)),
      `${tokens}`,
      healed ? 'healed' : '',
    ]),
  );
}
