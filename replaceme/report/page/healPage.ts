import { basename } from 'node:path';
import type { HealReport } from '../schema/schema.js';
import { healingSection } from './healingPlots.js';
import { digits, percent } from './numbers.js';
import type { PageContent } from './prunePage.js';
import { costSection, type Fact, repeatSection, samplesSection, verified } from './sections.js';

/** The page of `heal`, question by question. */
export async function healPage(report: HealReport): Promise<PageContent> {
  const { model, teacher, healing, result, verification, samples, data } = report;
  const before = healing.heldOut[0];
  const to = (from: number | undefined, now: string) =>
    `${from === undefined ? '' : `${digits(from, 4)} → `}${now}`;
  const { perplexity, againstPerplexity, kl, top1 } = result;
  const facts: Fact[] = [
    {
      name: 'Held-out perplexity',
      value: to(before && Math.exp(before.nll), digits(perplexity, 4)),
      note:
        teacher && againstPerplexity !== undefined
          ? `${basename(teacher.path)} ${digits(againstPerplexity, 4)}`
          : undefined,
    },
  ];
  if (kl !== undefined)
    facts.push({ name: 'KL to the dense model', value: `${to(before?.kl, digits(kl, 4))} nats` });
  if (top1 !== undefined) facts.push({ name: 'Top-1 agreement', value: percent(top1) });
  return {
    title: `${basename(model.path)}, healed`,
    facts,
    sections: [
      await healingSection(healing),
      {
        id: 'written',
        question: 'Was it written correctly?',
        short: 'Output',
        content: verified(verification),
      },
      samplesSection(samples),
      await costSection(report),
      repeatSection(report, data.files),
    ],
  };
}
