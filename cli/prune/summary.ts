import { basename } from 'node:path';
import { formatBytes } from '../../engine/format.js';
import type { ModelSummary } from '../../model/source/inspectModel.js';
import type { PruneReport } from '../../replaceme/index.js';
import { shellPath } from '../../replaceme/report/text/shellWord.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';

/** What the table needs of a model folder. */
export type ModelSize = Pick<ModelSummary, 'layers'> & {
  readonly parameters: Pick<ModelSummary['parameters'], 'total'>;
  readonly bytes: Pick<ModelSummary['bytes'], 'weights'>;
};

/** 134515008 -> "134.5 M" */
function formatCount(count: number): string {
  if (count >= 1e9) return `${(count / 1e9).toFixed(2)} B`;
  return count >= 1e6 ? `${(count / 1e6).toFixed(1)} M` : count.toLocaleString('en-US');
}

/** " (-18.4 %)" */
const change = (after: number, before: number): string => ` (${((100 * after) / before - 100).toFixed(1)} %)`;

/** Before and after side by side: layers, parameters, bytes, and where it was measured perplexity and KL divergence. */
export function formatBeforeAfter(
  { evaluation, imageEvaluation }: Pick<PruneReport, 'evaluation' | 'imageEvaluation'>,
  before: ModelSize,
  after: ModelSize,
): string {
  const right = (title: string) => ({ title, align: 'right' as const });
  const texts = evaluation?.texts ?? [];
  const columns = [
    ...[{ title: '' }, right('layers'), right('parameters'), right('weights')],
    ...texts.flatMap(({ file }) => [
      { ...right('perplexity'), group: { title: basename(file), columns: 2 } },
      right('KL'),
    ]),
    ...(imageEvaluation
      ? [
          {
            ...right('cosine'),
            group: { title: `embeddings of ${imageEvaluation.images} images`, columns: 2 },
          },
          right('relative error'),
        ]
      : []),
  ];
  const scores = (role: 'dense' | 'plain' | 'result') => {
    const images = imageEvaluation?.models.find(measured => measured.role === role);
    if (images) return [images.cosine.toPrecision(4), images.relativeError.toPrecision(3)];
    if (imageEvaluation) return ['', ''];
    const model = evaluation?.models.find(measured => measured.role === role);
    return texts.flatMap((_, i) => {
      const found = model?.eval[i];
      return found ? [found.ppl.toPrecision(4), role === 'dense' ? '' : found.kl.toPrecision(3)] : ['', ''];
    });
  };
  const { total } = before.parameters;
  const { weights } = before.bytes;
  const removed = [
    `${after.layers}`,
    formatCount(after.parameters.total) + change(after.parameters.total, total),
    formatBytes(after.bytes.weights) + change(after.bytes.weights, weights),
  ];
  const plain = (imageEvaluation ?? evaluation)?.models.some(({ role }) => role === 'plain');
  return formatTable(columns, [
    ['before', `${before.layers}`, formatCount(total), formatBytes(weights), ...scores('dense')],
    ...(plain ? [['removal alone', ...removed, ...scores('plain')]] : []),
    ['after', ...removed, ...scores('result')],
  ]);
}

/** What somebody may want to do with the result. */
export const nextSteps = (
  from: string,
  to: string,
  { imageEvaluation }: Pick<PruneReport, 'imageEvaluation'>,
): string =>
  imageEvaluation
    ? `next: rm-engine inspect ${shellPath(to)}`
    : [
        `next: rm-engine chat ${shellPath(to)} --against ${shellPath(from)}`,
        `      rm-engine eval ${shellPath(to)} FILE... --against ${shellPath(from)}`,
      ].join('\n');
