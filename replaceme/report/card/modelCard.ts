import { formatBytes, formatNumber, plural } from '../../../engine/index.js';
import type { ModelOrigin } from '../../../model/index.js';
import type { HealingRecord } from '../../healing/gradientHealing.js';
import { notMeasured } from '../../run/reportExtent.js';
import type { HealReport, ModelMeasures, PruneReport } from '../schema/schema.js';
import { closedFormInWords } from '../text/fitWords.js';
import { markdownName, markdownText } from '../text/markdown.js';
import { markdownTable, right } from '../text/textTable.js';
import { cardMetadata, type MeasuredValue } from './metadata.js';
import { imageEncoderUsage, languageModelUsage } from './usage.js';

const tags = ['rm-engine', 'depth-pruning', 'replaceme'];

/**
 * The model card of a pruned model, README.md.
 *
 * @param report with names in place of paths.
 * @param origin of the model before pruning.
 */
export function modelCard(report: PruneReport, origin: ModelOrigin = { inherited: {} }): string {
  const base = markdownName(origin.id ?? report.model.path);
  const files = report.calibration.files.map(({ path }) => markdownName(path)).join(', ');
  const details = Object.entries(report.fit).map(
    ([key, value]) =>
      `| ${markdownText(key)} | ${typeof value === 'number' ? Number(value.toPrecision(6)) : markdownText(`${value}`)} |`,
  );
  const healings = [
    ...closedFormInWords(report.recipe),
    ...(report.healing ? [healingInWords(report.healing)] : []),
  ];
  const healed = healings.length > 0 ? `, with ${healings.join(', then ')}` : '';
  const evaluated = report.evaluation ? ' with all measurements; `report.html` shows them' : '';
  const { images } = report.model;
  const metadata = cardMetadata(report.output.path, origin, {
    task: images ? 'image-feature-extraction' : 'text-generation',
    tags: [...tags, report.method],
    values: measuredValues(report),
  });
  return `${metadata}
# ${markdownName(report.output.path)}

${base} with ${report.model.layers - report.output.layers} of its ${report.model.layers} layers removed: ${markdownText(report.summary)}
(layers counted from 0). Method: \`${report.method}\` (${markdownText(report.source)})${healed}.

The result is an ordinary model of the same architecture with ${plural(report.output.layers, 'layer')}: it needs no extra code.

${beforeAndAfter(report)}${images ? imageEncoderUsage : languageModelUsage}
## How it was made

| | |
|---|---|
| calibration | ${plural(report.calibration.tokens, 'token')} in ${plural(report.calibration.sequences, 'sequence')}${files && ` (${files})`} |
| layers chosen by | ${markdownText(report.selection.by)} |
${details.join('\n')}

\`rm-engine prune --config recipe.yaml\` makes it again. Made with ${report.version} on ${markdownText(report.adapter.description)}.
\`report.json\` has the full recipe${evaluated}. The base model's licence applies; its card, if it had one, is \`README.base.md\`.
`;
}

const roleNames: Readonly<Record<ModelMeasures['role'], string>> = {
  dense: 'before',
  plain: 'as many layers removed, nothing repaired',
  result: 'this model',
};

/** The models side by side; empty where nothing was measured. */
function beforeAndAfter({ evaluation, imageEvaluation, extent }: PruneReport): string {
  if (imageEvaluation) {
    const rows = imageEvaluation.models.map(({ role, layers, cosine, relativeError }) => [
      roleNames[role],
      `${layers}`,
      ...[cosine, relativeError].map(value => formatNumber(value, 4)),
    ]);
    const columns = [{ title: '' }, ...['layers', 'cosine of embeddings', 'relative error'].map(right)];
    return `## Before and after\n\n${markdownTable(columns, rows)}\nOn ${plural(imageEvaluation.images, 'image')}.\n\n`;
  }
  if (!evaluation) return '';
  const columns = [
    ...[{ title: '' }, right('layers'), right('parameters'), right('weights')],
    ...evaluation.texts.flatMap(({ file }) => [
      { ...right('perplexity'), group: { title: markdownName(file), columns: 3 } },
      ...[right('KL'), right('same top token')],
    ]),
  ];
  const rows = evaluation.models.map(({ role, layers, parameters, bytes, eval: scores }) => [
    roleNames[role],
    ...[`${layers}`, parameters.toLocaleString('en-US'), formatBytes(bytes)],
    ...scores.flatMap(({ ppl, kl, top1 }) => [
      formatNumber(ppl, 4),
      role === 'dense' ? '' : formatNumber(kl),
      role === 'dense' ? '' : `${(100 * top1).toFixed(1)} %`,
    ]),
  ]);
  const missing = notMeasured(extent);
  const tokens = evaluation.texts.map(
    ({ file, tokens }) => `${plural(tokens, 'token')} of ${markdownName(file)}`,
  );
  return (
    `## Before and after\n\n${markdownTable(columns, rows).replaceAll('\\|', '|')}\n` +
    `Measured on ${tokens.join(' and ')}; KL is the mean divergence from the model before pruning, in nats per token.` +
    `${missing && ` ${missing}`}\n\n`
  );
}

/** What was measured of the result, for the metadata. */
function measuredValues({ evaluation, imageEvaluation }: PruneReport): MeasuredValue[] {
  const image = imageEvaluation?.models.find(({ role }) => role === 'result');
  if (image) {
    const on = { data: `${imageEvaluation!.images} images`, kind: 'image' as const };
    return [
      {
        ...on,
        metric: 'cosine_similarity',
        name: 'Cosine with the embeddings before pruning',
        value: image.cosine,
      },
    ];
  }
  const scores = evaluation?.models.find(({ role }) => role === 'result')?.eval ?? [];
  return scores.flatMap(({ file, ppl, kl, top1 }) => [
    { data: file, kind: 'text', metric: 'perplexity', name: 'Perplexity', value: ppl },
    {
      data: file,
      kind: 'text',
      metric: 'kl_divergence',
      name: 'KL from the base model, nats per token',
      value: kl,
    },
    {
      data: file,
      kind: 'text',
      metric: 'top1_agreement',
      name: 'Same top token as the base model',
      value: top1,
    },
  ]);
}

/** "300 steps of healing (transform, objective kl)" */
const healingInWords = ({ settings: { train, objective }, steps }: HealingRecord): string =>
  `${plural(steps.length, 'step')} of healing (${train}, objective ${objective})`;

/**
 * The model card of a healed model, README.md.
 *
 * @param report with names in place of paths.
 * @param origin of the model before healing.
 */
export function healedCard(report: HealReport, origin: ModelOrigin = { inherited: {} }): string {
  const { model, output, healing, data, recipe, result } = report;
  const on = { data: 'held-out text', kind: 'text' as const };
  const metadata = cardMetadata(output.path, origin, {
    task: 'text-generation',
    tags,
    values: [
      { ...on, metric: 'perplexity', name: 'Perplexity', value: result.perplexity },
      ...(result.kl === undefined
        ? []
        : [
            {
              ...on,
              metric: 'kl_divergence',
              name: 'KL from the base model, nats per token',
              value: result.kl,
            },
          ]),
    ],
  });
  return `${metadata}
# ${markdownName(output.path)}

${markdownText(report.sentence)}

The result is an ordinary model of the same architecture with ${plural(model.layers, 'layer')}: it needs no extra code.

${languageModelUsage}
## How it was made

| | |
|---|---|
| healed | ${markdownName(model.path)} |
| training | ${healingInWords(healing)}, learning rate ${recipe.learningRate}, ${plural(recipe.batchTokens, 'token')} a step |
| trained parameters | ${healing.parameters} |
| text | ${plural(data.tokens, 'token')} in ${plural(data.sequences, 'sequence')} (${data.files.map(({ path }) => markdownName(path)).join(', ')}) |

Made with ${report.version} on ${markdownText(report.adapter.description)}. \`report.json\` has the full recipe with all measurements;
\`report.html\` shows them. The licence of the model before healing applies; its card, if it had one, is \`README.base.md\`.
`;
}
