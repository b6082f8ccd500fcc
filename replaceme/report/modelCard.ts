import type { HealingRecord } from '../healing/gradientHealing.js';
import type { HealReport, PruneReport } from './schema/schema.js';
import { markdownName, markdownText, yamlText } from './text/markdown.js';

/** The model card of a pruned model, README.md. @param report with names in place of paths. */
export function modelCard(report: PruneReport): string {
  const base = markdownName(report.model.path);
  const files = report.calibration.files.map(({ path }) => markdownName(path)).join(', ');
  const details = Object.entries(report.fit).map(
    ([key, value]) =>
      `| ${markdownText(key)} | ${typeof value === 'number' ? Number(value.toPrecision(6)) : markdownText(`${value}`)} |`,
  );
  const healings = [
    ...(report.recipe.heal ? ['closed-form healing'] : []),
    ...(report.healing ? [healingInWords(report.healing)] : []),
  ];
  const healed = healings.length > 0 ? `, with ${healings.join(', then ')}` : '';
  const evaluated = report.evaluation ? ' with all measurements; `report.html` shows them' : '';
  return `---
base_model: ${yamlText(report.model.path)}
library_name: transformers
tags:
- depth-pruning
- replaceme
---
# ${markdownName(report.output.path)}

${base} with ${report.model.layers - report.output.layers} of its ${report.model.layers} layers removed: ${markdownText(report.summary)}
(layers counted from 0). Method: \`${report.method}\` (${markdownText(report.source)})${healed}.

The result is an ordinary model of the same architecture with ${report.output.layers} layers: it needs no extra code.

| | |
|---|---|
| calibration | ${report.calibration.tokens} tokens in ${report.calibration.sequences} sequences${files && ` (${files})`} |
| layers chosen by | ${markdownText(report.selection.by)} |
${details.join('\n')}

Made with ${report.version} on ${markdownText(report.adapter.description)}. \`report.json\` has the full recipe${evaluated}. The base
model's licence applies; its card, if it had one, is \`README.base.md\`.
`;
}

/** "300 steps of healing (transform, objective kl)" */
const healingInWords = ({ settings: { train, objective }, steps }: HealingRecord): string =>
  `${steps.length} steps of healing (${train}, objective ${objective})`;

/** The model card of a healed model, README.md. @param report with names in place of paths. */
export function healedCard(report: HealReport): string {
  const { model, teacher, output, healing, data, recipe } = report;
  return `---
base_model: ${yamlText((teacher ?? model).path)}
library_name: transformers
tags:
- depth-pruning
- replaceme
---
# ${markdownName(output.path)}

${markdownText(report.sentence)}

The result is an ordinary model of the same architecture with ${model.layers} layers: it needs no extra code.

| | |
|---|---|
| healed | ${markdownName(model.path)} |
| training | ${healingInWords(healing)}, learning rate ${recipe.learningRate}, ${recipe.batchTokens} tokens a step |
| trained parameters | ${healing.parameters} |
| text | ${data.tokens} tokens in ${data.sequences} sequences (${data.files.map(({ path }) => markdownName(path)).join(', ')}) |

Made with ${report.version} on ${markdownText(report.adapter.description)}. \`report.json\` has the full recipe with all measurements;
\`report.html\` shows them. The licence of the model before healing applies; its card, if it had one, is \`README.base.md\`.
`;
}
