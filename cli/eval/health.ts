import { RmError } from '../../engine/errors.js';
import type { GenerationHealth } from '../../model/generation/generationHealth.js';
import { formatTable } from '../../replaceme/report/text/textTable.js';
import type { Run } from '../terminal/command.js';
import type { LoadedModel } from './tasks.js';

/** Options of `eval` about generated samples. */
export interface HealthCommandOptions {
  /** True, or a file of prompts. */
  health?: boolean | string;
  healthTokens?: number;
}

/** Health of one model, and of the other with --against. */
export interface HealthOutcome extends GenerationHealth {
  readonly against?: GenerationHealth;
}

/** The prompts of --health, or undefined for the built-in ones. */
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

/** Lets one model, or two, continue the prompts. */
export async function runHealth(
  { options, progress, signal }: Run<HealthCommandOptions>,
  prompts: readonly string[] | undefined,
  loaded: LoadedModel,
  against?: LoadedModel,
): Promise<HealthOutcome> {
  const { generationHealth } = await import('../../model/generation/generationHealth.js');
  const of = ({ model, tools }: LoadedModel) => {
    progress.nextStep();
    return generationHealth(model, tools, {
      ...{ prompts, tokens: options.healthTokens, onProgress: progress, signal },
    });
  };
  const result = await of(loaded);
  return against ? { ...result, against: await of(against) } : result;
}

const SHORT = 72;
const oneLine = (text: string): string => {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > SHORT ? `${line.slice(0, SHORT - 1)}…` : line;
};

/** How much the models repeat themselves, and the beginning of each sample. */
export function formatHealth(health: HealthOutcome): string {
  const models = [
    { name: 'model', health: health as GenerationHealth },
    ...(health.against ? [{ name: 'other model', health: health.against }] : []),
  ];
  const right = (title: string) => ({ title, align: 'right' as const });
  const share = (value: number) => `${(100 * value).toFixed(1)} %`;
  const summary = formatTable(
    [
      ...[{ title: 'greedy samples' }, right('repeated 4-grams'), right('distinct-1'), right('distinct-2')],
      ...[right('longest loop'), right('ended by themselves')],
    ],
    models.map(({ name, health: of }) => [
      ...[name, share(of.repeated4grams), of.distinct1.toFixed(3), of.distinct2.toFixed(3)],
      ...[`${of.longestLoop} tokens`, `${of.ended} of ${of.samples.length}`],
    ]),
  );
  const texts = health.samples.map(({ prompt }, i) =>
    [
      `> ${oneLine(prompt)}`,
      ...models.map(({ name, health: of }) => {
        const label = models.length > 1 ? `${name}: `.padEnd(13) : '';
        return `  ${label}${oneLine(of.samples[i]!.text)}`;
      }),
    ].join('\n'),
  );
  return `${summary}\n${texts.join('\n')}\n`;
}
