import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { writeOutputFile } from '../model/checkpoint/outputFolder.js';
import { shippedPath } from './calibration.js';
import type { PruneReport } from './report.js';

/** This package's name and version. */
export async function packageVersion(): Promise<string> {
  const { name, version } = JSON.parse(await readFile(shippedPath('..', 'package.json'), 'utf8')) as {
    name: string;
    version: string;
  };
  return `${name} ${version}`;
}

const fileName = (path: string): string => basename(resolve(path));

/** The report with names in place of paths: a published model should not tell where it was made. */
function withoutPaths(report: PruneReport): PruneReport {
  const files = report.calibration.files.map(file => ({ ...file, path: fileName(file.path) }));
  return {
    ...report,
    model: { ...report.model, path: fileName(report.model.path) },
    output: { ...report.output, path: fileName(report.output.path) },
    calibration: { ...report.calibration, files },
  };
}

/** Writes README.md (the model card) and rm-engine.json (provenance) into a model folder. */
export async function writeDocumentation(folder: string, fullReport: PruneReport): Promise<void> {
  const version = await packageVersion();
  const report = withoutPaths(fullReport);
  const provenance = { version, node: process.version, date: new Date().toISOString(), ...report };
  await writeOutputFile(join(folder, 'rm-engine.json'), `${JSON.stringify(provenance, null, 2)}\n`);
  await writeOutputFile(join(folder, 'README.md'), modelCard(report, version));
}

function modelCard(report: PruneReport, version: string): string {
  const base = report.model.path;
  const name = report.output.path;
  const files = report.calibration.files.map(file => file.path).join(', ');
  const details = Object.entries(report.fit).map(
    ([key, value]) => `| ${key} | ${typeof value === 'number' ? Number(value.toPrecision(6)) : value} |`,
  );
  const healed = report.recipe.heal ? ', with closed-form healing' : '';
  return `---
base_model: ${JSON.stringify(base)}
library_name: transformers
tags:
- depth-pruning
- replaceme
---
# ${name}

${base} with ${report.model.layers - report.output.layers} of its ${report.model.layers} layers removed: ${report.summary}
(layers counted from 0). Method: \`${report.method}\` (${report.source})${healed}.

The result is an ordinary model of the same architecture with ${report.output.layers} layers: it needs no extra code.

| | |
|---|---|
| calibration | ${report.calibration.tokens} tokens in ${report.calibration.sequences} sequences${files && ` (${files})`} |
| layers chosen by | ${report.selection.by} |
${details.join('\n')}

Made with ${version} on ${report.adapter.description}. The full recipe is in \`rm-engine.json\`; the base model's own
card, if it had one, is \`README.base.md\`, and its licence applies.
`;
}
