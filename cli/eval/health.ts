import { RmError } from '../../engine/errors.js';
import type { GenerationHealth } from '../../model/generation/generationHealth.js';
import { formatTable, right } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';
import type { LoadedModel } from './tasks.js';

/** Options of `eval` for generated samples. */
export interface HealthCommandOptions {
  /** True for the built-in prompts, or a file of prompts. */
  health?: boolean | string;
  healthTokens?: number;
}

/** Health of the model, and of the other one with --against. */
export interface HealthOutcome extends GenerationHealth {
  readonly against?: GenerationHealth;
}

/**
 * Reads the prompts of --health; undefined stands for the built-in ones.
 *
 * @throws RmError DATA_INVALID for a file of conversations.
 */
export async function readHealthPrompts(health: boolean | string | undefined): Promise<string[] | undefined> {
  if (typeof health !== 'string') return undefined;
  const { readDocuments } = await import('../../model/text/documents.js');
  const prompts: string[] = [];
  for await (const document of readDocuments(health)) {
    if (!('text' in document)) {
      throw new RmError('DATA_INVALID', `${health}: holds conversations`, 'Give prompts as plain texts.');
    }
    prompts.push(document.text);
  }
  return prompts;
}

/** Lets the model, and the other one if given, continue the prompts. */
export async function runHealth(
  { options, progress, signal }: Run<HealthCommandOptions>,
  prompts: readonly string[] | undefined,
  first: LoadedModel,
  against?: LoadedModel,
): Promise<HealthOutcome> {
  const { generationHealth } = await import('../../model/generation/generationHealth.js');
  const healthOf = ({ model, reader }: LoadedModel) => {
    progress.nextStep();
    return generationHealth(model, reader, {
      ...{ prompts, tokens: options.healthTokens, onProgress: progress, signal },
    });
  };
  const health = await healthOf(first);
  return against ? { ...health, against: await healthOf(against) } : health;
}

const SHORT = 72;
const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > SHORT ? `${line.slice(0, SHORT - 1)}…` : line;
};

/** A table of how much the models repeat themselves, then the beginning of each sample. */
export function formatHealth(outcome: HealthOutcome): string {
  const models: { name: string; health: GenerationHealth }[] = [
    { name: 'model', health: outcome },
    ...(outcome.against ? [{ name: 'other model', health: outcome.against }] : []),
  ];
  const share = (value: number) => `${(100 * value).toFixed(1)} %`;
  const summary = formatTable(
    [
      ...[{ title: 'greedy samples' }, right('repeated 4-grams'), right('distinct-1'), right('distinct-2')],
      ...[right('longest loop'), right('ended by themselves')],
    ],
    models.map(({ name, health }) => [
      ...[name, share(health.repeated4grams), health.distinct1.toFixed(3), health.distinct2.toFixed(3)],
      ...[`${health.longestLoop} tokens`, `${health.ended} of ${health.samples.length}`],
    ]),
  );
  const texts = outcome.samples.map(({ prompt }, i) =>
    [
      `> ${oneLine(prompt)}`,
      ...models.map(({ name, health }) => {
        const label = models.length > 1 ? `${name}: `.padEnd(13) : '';
        return `  ${label}${oneLine(health.samples[i]!.text)}`;
      }),
    ].join('\n'),
  );
  return `${summary}\n${texts.join('\n')}\n`;
}
